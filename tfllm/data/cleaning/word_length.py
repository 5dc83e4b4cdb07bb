"""Take out documents whose words are too short or too long on average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.words import is_unspaced, units

__all__ = ["WordLength"]


@dataclass(frozen=True)
class WordLength(Step):
    """Keeps documents whose words are of a usual mean length.

    Only documents that are mostly in scripts with spaces are judged: Chinese, Japanese, Thai and
    their like pass.

    Attributes:
        least: characters.
        most: characters.

    Reference:
        Rae et al., Scaling Language Models: … Training Gopher, 2021 (2112.11446), appendix A.1.1,
        with these defaults.
    """

    name: ClassVar[str] = "word_length"

    least: float = 3.0
    most: float = 10.0

    def begin(self) -> Callable[[str], str | Removal]:
        """Needs no memory."""
        return self._judge

    def _judge(self, document: str) -> str | Removal:
        all_units = units(document)
        words = [unit for unit in all_units if not is_unspaced(unit)]
        # Marks between Chinese characters are words of their own: half would be too many.
        if 4 * len(words) < 3 * len(all_units) or not words:
            return document
        mean = sum(map(len, words)) / len(words)
        if self.least <= mean <= self.most:
            return document
        return Removal(
            f"words of {mean:.1f} characters on average, not {self.least:g} to {self.most:g}"
        )
