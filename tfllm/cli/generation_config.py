"""The flags that say how a model writes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tfllm.cli.common_config import require
from tfllm.cli.unescaped import unescaped
from tfllm.errors import InputError

__all__ = ["GenerationConfig"]

# Flags that ask for chance.
_CHANCE = ("temperature", "top_k", "top_p", "min_p")
_MOST_STOP_BYTES = 256  # as in `tfllm.generation`


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """The flags of a recipe that lets a model write."""

    max_new_tokens: int | None = None
    """Tokens after which a text ends. Default: 64 or half the positions; a bundle's own at most."""
    temperature: float | None = None
    """Draw tokens by chance; above 1 more freely, below 1 less, and 0 takes the likeliest."""
    top_k: int | None = None
    """Draw among so many of the likeliest tokens; 0 for all."""
    top_p: float | None = None
    """Draw among the likeliest tokens whose shares add up to this; 1 for all."""
    min_p: float | None = None
    """Draw among tokens at least so many times as likely as the likeliest; 0 for all."""
    seed: int = 0
    """Decides chance: the same seed writes the same, whatever prompts are beside it."""
    repetition_penalty: float | None = None
    """Above 1, tokens of prompt and text so far become less likely."""
    no_repeat_ngram_size: int | None = None
    """No so many tokens in a row come twice; 0 for no such rule."""
    num_beams: int | None = None
    """Search for the likeliest text among so many at a time, in place of token by token."""
    num_returned: int = 1
    """Texts for each prompt, with --num_beams or chance."""
    stop: tuple[str, ...] = ()
    r"""End before any of these texts; \n and \t are a new line and a tab."""
    slide: bool = False
    """A prompt that is too long loses its beginning, in place of being refused."""

    def check(self) -> None:
        """Refuse what contradicts itself, before TensorFlow is imported."""
        for name, value in vars(self).items():
            finite = not isinstance(value, float) or math.isfinite(value)
            require(finite, name, value, "must be a finite number")
            if isinstance(value, float):
                require(abs(value) <= 3.4e38, name, value, "must be at most 3.4e38")
            elif isinstance(value, int) and name != "seed":
                require(value < 2**31, name, value, "must be below 2³¹")
        for name in ("max_new_tokens", "num_beams", "num_returned"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "must be at least 1")
        for name in ("temperature", "top_k", "no_repeat_ngram_size"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "must not be negative")
        penalty, top_p, min_p = self.repetition_penalty, self.top_p, self.min_p
        require(penalty is None or penalty > 0, "repetition_penalty", penalty, "must be above 0")
        rule = "must be above 0 and at most 1"
        require(top_p is None or 0 < top_p <= 1, "top_p", top_p, rule)
        require(min_p is None or 0 <= min_p <= 1, "min_p", min_p, "must be between 0 and 1")
        # Each of several texts has the next seed, and a bundle takes them as int32.
        last = 2**31 - self.num_returned
        rule = f"must be between 0 and 2³¹ − {self.num_returned}, one for each text of a prompt"
        require(0 <= self.seed <= last, "seed", self.seed, rule)
        require(all(self.stop), "stop", "''", "must not be empty")
        for text in self.stops:
            rule = f"must have at most {_MOST_STOP_BYTES} bytes"
            require(len(_utf8(text)) <= _MOST_STOP_BYTES, "stop", f"{text:.40}…", rule)
        self._check_together()

    def _check_together(self) -> None:
        for name in _CHANCE if self.num_beams else ():
            self.exclude("num_beams", name)
        for name in _CHANCE[1:] if self.temperature == 0 else ():
            self.exclude("temperature", name)
        several, beams = self.num_returned, self.num_beams
        rule = "needs --num_beams or --temperature: the likeliest text is only one"
        require(several == 1 or bool(beams) or self.by_chance, "num_returned", several, rule)
        rule = f"must be at most --num_beams {beams}"
        require(beams is None or several <= beams, "num_returned", several, rule)

    def exclude(self, one: str, other: str) -> None:
        """Refuse two flags that are given together."""
        value, found = getattr(self, one), getattr(self, other)
        if value is not None and found is not None:
            both = f"--{one} {value} and --{other} {found}"
            raise InputError(f"{both} exclude each other. Give one of them")

    @property
    def by_chance(self) -> bool:
        """Whether tokens are drawn."""
        return bool(self.given(*_CHANCE)) and self.temperature != 0

    @property
    def stops(self) -> list[str]:
        r"""Stop texts; a shell leaves `\n` as it is."""
        return [unescaped(text) for text in self.stop]

    def given(self, *names: str) -> dict[str, Any]:
        """Give those of some flags that are not left open."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def chance(self) -> dict[str, Any] | None:
        """Give what `tfllm.generation.Sampling` takes; None where nothing is drawn."""
        return {**self.given(*_CHANCE), "seed": self.seed} if self.by_chance else None

    def rules(self) -> dict[str, Any]:
        """Give what `tfllm.generation.Rules` takes; empty without rules."""
        return self.given("repetition_penalty", "no_repeat_ngram_size")

    def of_a_bundle(self) -> dict[str, Any]:
        """Give the settings that ask a bundle for something else than its default."""
        given = self.given("max_new_tokens", "num_beams", *_CHANCE) | self.rules()
        if self.by_chance:
            given = {"temperature": 1.0, "seed": self.seed, **given}
        if self.stop:
            given["stop"] = self.stops
        return given | ({"slide": True} if self.slide else {})


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputError(f"--stop must be UTF-8. Received: {text!a:.60}") from None
