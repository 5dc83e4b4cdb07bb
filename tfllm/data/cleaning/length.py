"""Take out documents that are too short or too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.words import units

__all__ = ["Length"]


@dataclass(frozen=True)
class Length(Step):
    """Keeps documents of a length within limits; none is cut.

    Attributes:
        least_characters: code points.
        most_characters: None for no limit.
        least_words: words between white space; in scripts without spaces, characters.
        most_words: None for no limit.
    """

    name: ClassVar[str] = "length"

    least_characters: int = 1
    most_characters: int | None = None
    least_words: int = 0
    most_words: int | None = None

    def begin(self) -> Callable[[str], str | Removal]:
        """Needs no memory."""
        return self._judge

    def _judge(self, document: str) -> str | Removal:
        reason = _outside(len(document), self.least_characters, self.most_characters, "characters")
        if reason is None and (self.least_words or self.most_words is not None):
            reason = _outside(len(units(document)), self.least_words, self.most_words, "words")
        return Removal(reason) if reason else document


def _outside(length: int, least: int, most: int | None, unit: str) -> str | None:
    if length < least:
        return f"{length:,} {unit}, fewer than {least:,}"
    if most is not None and length > most:
        return f"{length:,} {unit}, more than {most:,}"
    return None
