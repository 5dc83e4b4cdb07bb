"""Take out documents that repeat their lines or paragraphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step

__all__ = ["RepeatedLines"]


@dataclass(frozen=True)
class RepeatedLines(Step):
    """Keeps documents whose lines and paragraphs seldom stood before in the same document.

    A line or paragraph counts as repeated from its second time on; blank ones don't count.

    Attributes:
        most: share of the lines, and of the paragraphs, that are repeated.
        most_characters: share of the characters in repeated lines, and in repeated paragraphs.

    Reference:
        Rae et al., Scaling Language Models: … Training Gopher, 2021 (2112.11446), table A1, with
        these defaults.
    """

    name: ClassVar[str] = "repeated_lines"

    most: float = 0.3
    most_characters: float = 0.2

    def begin(self) -> Callable[[str], str | Removal]:
        """Needs no memory."""
        return self._judge

    def _judge(self, document: str) -> str | Removal:
        for parting, unit in (("\n", "lines"), ("\n\n", "paragraphs")):
            parts = [part.strip() for part in document.split(parting) if part.strip()]
            reason = self._too_many(parts, unit)
            if reason:
                return Removal(reason)
        return document

    def _too_many(self, parts: list[str], unit: str) -> str | None:
        distinct = set(parts)
        repeated = len(parts) - len(distinct)
        if not repeated:
            return None
        if repeated > self.most * len(parts):
            return f"{repeated:,} of {len(parts):,} {unit} are repeated"
        characters = sum(map(len, parts))
        share = 1 - sum(map(len, distinct)) / characters
        if share > self.most_characters:
            return f"{share:.0%} of the characters are in repeated {unit}"
        return None
