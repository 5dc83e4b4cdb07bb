"""A bundle, run as TensorFlow Serving runs it, for a person at the terminal."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from tfllm.cli.prompt_fields import prompt_fields
from tfllm.errors import InputError

__all__ = ["BundleWriter"]

# What `generate` takes for a setting that is not given.
_NEUTRAL: dict[str, Any] = {
    "max_new_tokens": 64,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "seed": 0,
    "stop": [""],
}


class BundleWriter:
    """A `Writer` over a `tfllm.serving.Session`; a template is part of the bundle.

    Attributes:
        remembers: False: a bundle takes the turns of a conversation, and tells nobody so.
    """

    remembers = False

    def __init__(
        self, session: Any, name: str, settings: Mapping[str, Any], *, num_returned: int = 1
    ) -> None:
        """See whether the bundle can do what is asked of it.

        Args:
            session: the bundle.
            name: what the person calls it.
            settings: of each row, by the names of the flags; none asks the default signature.
            num_returned: texts for each prompt; each has the next `seed`.

        Raises:
            InputError: if it lacks the signature, takes no such setting, or writes no text.
        """
        self._session = session
        self._several = num_returned
        self._signature = "generate" if settings else "serving_default"
        if self._signature not in session.signatures:
            raise InputError(
                f"{name} has no signature {self._signature!r}, which flags of generation need. It "
                f"has: {', '.join(session.signatures)}"
            )
        found = session.signatures[self._signature]
        if "text" not in found.outputs:
            raise InputError(
                f"{name} writes no text: its signature {self._signature!r} gives "
                f"{', '.join(found.outputs)}. Ask a generator's bundle, or use predict.py"
            )
        for flag in settings:
            if flag not in found.inputs:
                raise InputError(
                    f"--{flag} is nothing that {name} knows. Its signature {self._signature!r} "
                    f"takes {', '.join(found.inputs)}. Give a model's folder"
                )
        taken = {key: value for key, value in _NEUTRAL.items() if key in found.inputs}
        self._settings = {**taken, **settings} if settings else {}
        self._fields = tuple(
            key for key, spec in found.inputs.items() if spec.dtype == "string" and key != "stop"
        )

    def prompts(self, given: Sequence[str | Mapping[str, Any]]) -> list[str]:
        """Give the fields of each, as JSON."""
        return [json.dumps(prompt_fields(one, self._fields)) for one in given]

    def write(self, prompts: Sequence[str]) -> list[list[str]]:
        """Send a request for each text of a prompt."""
        given = [json.loads(prompt) for prompt in prompts]
        columns: list[list[str]] = []
        for number in range(self._several):
            rows: dict[str, Any] = {name: [one[name] for one in given] for name in self._fields}
            rows |= {name: [value] * len(given) for name, value in self._settings.items()}
            if "seed" in rows:
                rows["seed"] = [seed + number for seed in rows["seed"]]
            answers = self._session.run(self._signature, rows)["text"]
            columns.append([text.decode(errors="replace") for text in answers])
        return [list(texts) for texts in zip(*columns, strict=True)]

    def stream(self, prompt: str) -> Generator[str, None, None]:
        """Give the whole text: a bundle answers all at once."""
        yield self.write([prompt])[0][0]
