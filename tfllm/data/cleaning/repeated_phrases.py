"""Take out documents that say the same phrase again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.words import is_unspaced, units

__all__ = ["RepeatedPhrases"]


def _gopher_top() -> dict[int, float]:
    return {2: 0.20, 3: 0.18, 4: 0.16}


def _gopher_repeated() -> dict[int, float]:
    return {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


@dataclass(frozen=True)
class RepeatedPhrases(Step):
    """Keeps documents in which runs of words seldom come again.

    Shares are of the characters outside white space. A document that is mostly in scripts without
    spaces is judged by runs of twice as many characters as elsewhere words: two Chinese
    characters are about a word.

    Attributes:
        most_in_top: words of a run → how much the commonest run may take up, if it comes twice
            (its number times its length: where it overlaps itself, that can be more than all).
        most_repeated: words of a run → how much may lie in runs that stood before; overlaps
            count once.

    Reference:
        Rae et al., Scaling Language Models: … Training Gopher, 2021 (2112.11446), table A1, with
        these defaults.
    """

    name: ClassVar[str] = "repeated_phrases"

    most_in_top: Mapping[int, float] = field(default_factory=_gopher_top)
    most_repeated: Mapping[int, float] = field(default_factory=_gopher_repeated)

    def begin(self) -> Callable[[str], str | Removal]:
        """Needs no memory."""
        return self._judge

    def _judge(self, document: str) -> str | Removal:
        words = units(document)
        scale = 2 if 2 * sum(map(is_unspaced, words)) > len(words) else 1
        characters = sum(map(len, words))
        for length, most in self.most_in_top.items():
            share = _top_share(words, scale * length, characters)
            if share > most:
                return Removal(f"{share:.0%} is one run of {scale * length} words")
        for length, most in self.most_repeated.items():
            share = _repeated_share(words, scale * length, characters)
            if share > most:
                return Removal(f"{share:.0%} lies in repeated runs of {scale * length} words")
        return document


def _runs(words: list[str], length: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(length)), strict=False))


def _top_share(words: list[str], length: int, characters: int) -> float:
    counted = Counter(_runs(words, length))
    if len(counted) == 0:
        return 0.0
    sizes = (count * sum(map(len, run)) for run, count in counted.items() if count > 1)
    return max(sizes, default=0) / characters


def _repeated_share(words: list[str], length: int, characters: int) -> float:
    seen: set[tuple[str, ...]] = set()
    covered = repeated = 0
    for i, run in enumerate(_runs(words, length)):
        if run in seen:
            # Words before `covered` are counted already.
            repeated += sum(map(len, words[max(i, covered) : i + length]))
            covered = i + length
        seen.add(run)
    return repeated / characters if characters else 0.0
