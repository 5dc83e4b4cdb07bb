"""Take out documents that are mostly numbers and signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step

__all__ = ["LetterShare"]


@dataclass(frozen=True)
class LetterShare(Step):
    """Keeps documents in which most words hold a letter, of any script.

    Words stand between white space, so a Chinese sentence is one.

    Attributes:
        least: share of the words with a letter.

    Reference:
        Rae et al., Scaling Language Models: … Training Gopher, 2021 (2112.11446), appendix A.1.1,
        with this default.
    """

    name: ClassVar[str] = "letter_share"

    least: float = 0.8

    def begin(self) -> Callable[[str], str | Removal]:
        """Needs no memory."""
        return self._judge

    def _judge(self, document: str) -> str | Removal:
        words = document.split()
        with_letter = sum(any(map(str.isalpha, word)) for word in words)
        if with_letter < self.least * len(words):
            counts = f"{with_letter:,} of {len(words):,} words"
            return Removal(f"{counts} hold a letter, a smaller share than {self.least:.0%}")
        return document
