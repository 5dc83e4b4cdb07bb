"""How a model answers by default, in the model's folder."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from pathlib import Path
from typing import Any

from tfllm.errors import InputError

__all__ = ["MOST_BEAMS", "GenerationDefaults"]

# Each beam is a row of the batch; `tfllm.generation.checks` has the same limit.
MOST_BEAMS = 256

_NAME = "generation_defaults.json"
_LARGEST = (2 - 2**-23) * 2.0**127  # of 32 bits


@dataclasses.dataclass(frozen=True)
class GenerationDefaults:
    """What `CausalLM.signatures` is asked for: how a bundle's default signature writes.

    A run keeps it beside its weights, so that whoever exports the model again publishes the same.

    Attributes:
        max_new_tokens: the most tokens of a reply; None for what `signatures` takes then.
        num_beams: width of a beam search; None for none.
        temperature: how freely tokens are drawn; 0 takes the likeliest.
        top_k: draw among so many of the likeliest tokens; 0 for all.
        top_p: draw among the likeliest tokens whose shares add up to this; 1 for all.

    Raises:
        InputError: if a setting can't be meant, or two contradict each other.
    """

    max_new_tokens: int | None = None
    num_beams: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check each setting, and what they are together."""
        for name in ("max_new_tokens", "num_beams"):
            count = getattr(self, name)
            _require(count is None or _is_whole(count) and count >= 1, name, count, "at least 1")
        beams, most = self.num_beams, self.max_new_tokens
        _require(beams is None or beams <= MOST_BEAMS, "num_beams", beams, f"at most {MOST_BEAMS}")
        _require(most is None or most < 2**31, "max_new_tokens", most, "below 2³¹")
        heat, share = self.temperature, self.top_p
        _require(_is_number(heat) and heat >= 0, "temperature", heat, "at least 0")
        _require(heat <= _LARGEST, "temperature", heat, "a number of 32 bits")
        _require(_is_whole(self.top_k) and self.top_k >= 0, "top_k", self.top_k, "at least 0")
        _require(self.top_k < 2**31, "top_k", self.top_k, "below 2³¹")
        _require(_is_number(share) and 0 < share <= 1, "top_p", share, "above 0 and at most 1")
        for name, neutral in (("top_k", 0), ("top_p", 1)):
            if not heat and getattr(self, name) != neutral:
                raise InputError(
                    f"{name} {getattr(self, name)} means nothing at temperature 0, which takes "
                    "the likeliest token. Give a temperature above 0"
                )
        if heat and self.num_beams is not None:
            raise InputError(
                f"num_beams {self.num_beams} and temperature {heat} exclude each other: a beam "
                "search draws nothing. Give one of them"
            )

    def changed(self, **given: Any) -> GenerationDefaults:
        """Let what is given take the place of what is here; None is nothing given.

        Settings of chance put an end to a beam search, and the other way round.
        """
        given = {name: value for name, value in given.items() if value is not None}
        chance = {"temperature": 0.0, "top_k": 0, "top_p": 1.0}
        here = dataclasses.asdict(self)
        if "num_beams" in given or given.get("temperature") == 0:
            here |= chance
        if given.keys() & chance.keys():
            here["num_beams"] = None
        return GenerationDefaults(**here | given)

    def arguments(self) -> dict[str, Any]:
        """Give what `CausalLM.signatures` takes."""
        from tfllm.generation.beam import Beam
        from tfllm.generation.sampling import Sampling

        chance = Sampling(self.temperature, self.top_k, self.top_p)
        return {
            "max_new_tokens": self.max_new_tokens,
            "sampling": chance if self.temperature else None,
            "beam": None if self.num_beams is None else Beam(self.num_beams),
        }

    def save(self, folder: str | Path) -> Path:
        """Write `generation_defaults.json` into a model's folder, whole or not at all.

        Raises:
            InputError: if it can't be written.
        """
        path = Path(folder) / _NAME
        hidden = path.with_name(f".{_NAME}-{uuid.uuid4().hex[:8]}")
        try:
            hidden.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
            hidden.rename(path)
        except OSError as error:
            raise InputError(f"{path} can't be written: {error.strerror or error}") from error
        finally:
            hidden.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> GenerationDefaults:
        """Read it from a folder; where there is none, nothing is settled.

        Raises:
            InputError: if the file is no such thing.
        """
        path = Path(folder) / _NAME
        if not path.is_file():
            return cls()
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} can't be read as defaults of generation: {error}. Mend it, or remove it"
            ) from error


def _require(right: bool, name: str, value: Any, rule: str) -> None:
    if not right:
        raise InputError(f"{name} must be {rule}. Received: {value}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float) and math.isfinite(value)
