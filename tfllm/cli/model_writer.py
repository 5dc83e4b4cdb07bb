"""A language model in this process, for a person at the terminal."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from tfllm.cli.prompt_fields import prompt_fields
from tfllm.errors import InputError

__all__ = ["ModelWriter"]

_NEW_TOKENS = 64


class ModelWriter:
    """A `Writer` over a `tfllm.models.CausalLM`.

    Attributes:
        remembers: see `Writer`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: Any = None,
        *,
        max_new_tokens: int | None = None,
        sampling: Any = None,
        rules: Any = None,
        beam: Any = None,
        num_returned: int = 1,
        stop: Sequence[str] = (),
        slide: bool = False,
    ) -> None:
        """Take a model, and what is asked of it.

        Args:
            model: a `CausalLM`.
            tokenizer: its `tfllm.text.Tokenizer`.
            template: the `ExampleTemplate` that it was trained with; None to leave prompts alone.
            max_new_tokens: of each text; None for 64, or half the positions where these are fewer.
            sampling: see `CausalLM.generate`; of several texts each has the next seed.
            rules: see there.
            beam: see there.
            num_returned: texts for each prompt.
            stop: see there.
            slide: see there.

        Raises:
            InputError: if the model has fewer positions than new tokens.
        """
        positions = model.max_positions
        new = max_new_tokens or min(_NEW_TOKENS, max(1, positions // 2))
        if new > positions:
            raise InputError(
                f"--max_new_tokens must be at most the model's {positions} positions. Received: "
                f"{new}"
            )
        self.remembers = bool(template and template.is_conversation)
        self._model = model
        self._tokenizer = tokenizer
        self._template = template
        self._new_tokens = new
        self._sampling = sampling
        self._beam = beam
        self._several = num_returned
        self._options = {
            "tokenizer": tokenizer,
            "max_new_tokens": new,
            "rules": rules,
            "stop": list(stop),
            "slide": slide,
        }

    def prompts(self, given: Sequence[str | Mapping[str, Any]]) -> list[str]:
        """Apply the template, and refuse what is too long or empty."""
        prompts = [self._filled(one) for one in given]
        encoded = self._tokenizer.fast.encode_batch(prompts, add_special_tokens=False)
        for encoding in encoded:
            self._check(len(encoding.ids))
        return prompts

    def _filled(self, given: str | Mapping[str, Any]) -> str:
        if self._template is None:
            return prompt_fields(given, ("text",))["text"]
        import tensorflow as tf

        if not isinstance(given, str):
            given = self._template.request_of(given)
        fields = prompt_fields(given, self._template.inputs)
        tensors = {name: tf.constant([value]) for name, value in fields.items()}
        return self._template.prompt_in_graph(tensors).numpy()[0].decode()

    def _check(self, tokens: int) -> None:
        if not tokens and self._tokenizer.bos_id is None:
            raise InputError(
                "the prompt is empty, and this model has no start token to begin with. Give a text"
            )
        positions = self._model.max_positions
        room = positions - self._new_tokens + 1
        if tokens > room and not self._options["slide"]:
            raise InputError(
                f"the prompt has {tokens} tokens, and with --max_new_tokens {self._new_tokens} "
                f"the model's {positions} positions have room for {room}. Shorten it, or give "
                "--slide to drop its beginning"
            )

    def write(self, prompts: Sequence[str]) -> list[list[str]]:
        """Give each prompt's texts; those drawn by chance differ by seed."""
        rows: Any
        if self._beam:
            found = self._model.generate(list(prompts), beam=self._beam, **self._options)
            rows = found if self._several > 1 else [[text] for text in found]
        else:
            calls = [
                self._model.generate(list(prompts), sampling=self._drawn(n), **self._options)
                for n in range(self._several)
            ]
            rows = zip(*calls, strict=True)
        # Without the spaces of a template, as a bundle gives it.
        return [[text.strip() if self._template else text for text in row] for row in rows]

    def stream(self, prompt: str) -> Generator[str, None, None]:
        """Give one text in pieces."""
        if self._beam:
            yield self.write([prompt])[0][0]
            return
        pieces = self._model.stream(prompt, sampling=self._drawn(0), **self._options)
        begun = not self._template
        for piece in pieces:
            shown = piece if begun else piece.lstrip()
            begun = begun or bool(shown)
            if shown:
                yield shown

    def _drawn(self, number: int) -> Any:
        """Settings of chance for one of several texts."""
        return self._sampling and self._sampling._replace(seed=self._sampling.seed + number)
