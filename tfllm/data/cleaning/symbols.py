"""Take out documents of hash marks, bullets and cut-off lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.words import units

__all__ = ["Symbols"]

_ELLIPSIS = re.compile(r"\.\.\.+|…+")
_BULLETS = ("•", "‣", "▪", "●", "○", "◦", "■", "-", "*", "·")
_CUT_OFF = ("...", "…")
# What few lines are says nothing about them: one line is all of them or none.
_LEAST_LINES = 3


@dataclass(frozen=True)
class Symbols(Step):
    """Keeps documents without too many hash marks, ellipses and bullets.

    Lines are judged only where there are three or more.

    Attributes:
        most_per_word: hash marks, or ellipses, for each word (in scripts without spaces, for each
            character).
        most_bullets: share of the lines that begin with a bullet.
        most_cut_off: share of the lines that end with an ellipsis.

    Reference:
        Rae et al., Scaling Language Models: … Training Gopher, 2021 (2112.11446), appendix A.1.1,
        with these defaults.
    """

    name: ClassVar[str] = "symbols"

    most_per_word: float = 0.1
    most_bullets: float = 0.9
    most_cut_off: float = 0.3

    def begin(self) -> Callable[[str], str | Removal]:
        """Needs no memory."""
        return self._judge

    def _judge(self, document: str) -> str | Removal:
        reason = self._too_many_marks(document) or self._too_many_lines(document)
        return Removal(reason) if reason else document

    def _too_many_marks(self, document: str) -> str | None:
        hashes, ellipses = document.count("#"), len(_ELLIPSIS.findall(document))
        if not hashes and not ellipses:
            return None
        words = len(units(document))
        for count, mark in ((hashes, "hash marks"), (ellipses, "ellipses")):
            if count > self.most_per_word * words:
                return f"{count:,} {mark} in {words:,} words"
        return None

    def _too_many_lines(self, document: str) -> str | None:
        lines = [line.strip() for line in document.split("\n") if line.strip()]
        if len(lines) < _LEAST_LINES:
            return None
        bullets = sum(line.startswith(_BULLETS) for line in lines)
        if bullets > self.most_bullets * len(lines):
            return f"{bullets:,} of {len(lines):,} lines begin with a bullet"
        cut_off = sum(line.endswith(_CUT_OFF) for line in lines)
        if cut_off > self.most_cut_off * len(lines):
            return f"{cut_off:,} of {len(lines):,} lines end with an ellipsis"
        return None
