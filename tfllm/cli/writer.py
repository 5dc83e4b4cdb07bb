"""What a person at the terminal can let write."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Writer"]


class Writer(Protocol):
    """Something that writes: a model, or a bundle."""

    @property
    def remembers(self) -> bool:
        """Whether a prompt is the turns of a conversation so far, one a line."""
        ...

    def prompts(self, given: Sequence[str | Mapping[str, Any]]) -> list[str]:
        """Make prompts of texts, or of objects with a prompt's fields.

        Raises:
            InputError: if one can't be a prompt.
        """
        ...

    def write(self, prompts: Sequence[str]) -> list[list[str]]:
        """Give each prompt's texts."""
        ...

    def stream(self, prompt: str) -> Generator[str, None, None]:
        """Give one text in pieces."""
        ...
