"""Special tokens around one sequence of ids or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tokenizers

from tfllm.text.special_token_template import SpecialTokenTemplate

__all__ = ["RowTemplate"]


class RowTemplate(NamedTuple):
    """The parts of a row: special tokens before, between and after its sequences.

    Attributes:
        gaps: ids of the special tokens before the first sequence, after it, …
        gap_types: their token types.
        types: token type of each sequence.
    """

    gaps: tuple[tuple[int, ...], ...]
    gap_types: tuple[tuple[int, ...], ...]
    types: tuple[int, ...]

    @classmethod
    def of(cls, fast: tokenizers.Tokenizer, *, pair: bool) -> RowTemplate:
        """Read a tokenizer's post-processor.

        Raises:
            InputError: if it is of a kind that is not known, or puts a sequence twice.
        """
        template = SpecialTokenTemplate.of(fast)
        gaps: list[list[int]] = [[]]
        gap_types: list[list[int]] = [[]]
        types = []
        for piece in template.pair if pair else template.single:
            if piece.text is None:
                gaps[-1].append(piece.id)
                gap_types[-1].append(piece.token_type)
            else:
                gaps.append([])
                gap_types.append([])
                types.append(piece.token_type)
        return cls(tuple(map(tuple, gaps)), tuple(map(tuple, gap_types)), tuple(types))

    @property
    def added(self) -> int:
        """Special tokens of a row."""
        return sum(map(len, self.gaps))

    def ids(self, *sequences: Sequence[int]) -> list[int]:
        """Lay out sequences.

        Example:
            5 6 and 7 → [CLS] 5 6 [SEP] 7 [SEP].
        """
        row = list(self.gaps[0])
        for sequence, gap in zip(sequences, self.gaps[1:], strict=True):
            row += sequence
            row += gap
        return row

    def token_types(self, *lengths: int) -> list[int]:
        """Token types of sequences of some lengths, as `ids` lays them out."""
        row = list(self.gap_types[0])
        for length, token_type, gap in zip(lengths, self.types, self.gap_types[1:], strict=True):
            row += [token_type] * length
            row += gap
        return row

    def start(self, *lengths: int) -> int:
        """Where a sequence begins, after sequences of some lengths."""
        return sum(lengths) + sum(map(len, self.gaps[: len(lengths) + 1]))
