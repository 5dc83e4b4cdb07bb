"""Where the tokens of packed pieces lie in their rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tfllm.data.packed_plan import StepPieces

__all__ = ["PackedLayout", "lay_out"]


class PackedLayout(NamedTuple):
    """Each token of a step's pieces, piece after piece: `<int64>[tokens]` each.

    Attributes:
        source: where it stands in the store.
        place: where it goes in the batch, row after row.
        position: its number in its piece, from 0.
        segment: its piece's number in the row, from 1.
        shape: rows of the batch, and positions of a row.
    """

    source: np.ndarray
    place: np.ndarray
    position: np.ndarray
    segment: np.ndarray
    shape: tuple[int, int]

    def put(self, values: np.ndarray, padding: int, dtype: Any = np.int32) -> np.ndarray:
        """Lay out one value a token: `[rows, positions]`."""
        rows: np.ndarray = np.full(self.shape[0] * self.shape[1], padding, dtype)
        rows[self.place] = values
        return rows.reshape(self.shape)


def lay_out(pieces: StepPieces, sequence_length: int) -> PackedLayout:
    """Place pieces one after another in their rows.

    Example:
        pieces of 3 and 2 tokens in one row of 6 → places 0 1 2 3 4, segments 1 1 1 2 2,
        positions 0 1 2 0 1.
    """
    number = np.arange(len(pieces.rows))
    first = np.searchsorted(pieces.rows, pieces.rows)  # the first piece of the same row
    before = np.cumsum(pieces.lengths) - pieces.lengths
    position = np.arange(int(pieces.lengths.sum())) - np.repeat(before, pieces.lengths)
    column = pieces.rows * sequence_length + before - before[first]
    return PackedLayout(
        source=np.repeat(pieces.starts, pieces.lengths) + position,
        place=np.repeat(column, pieces.lengths) + position,
        position=position,
        segment=np.repeat(number - first + 1, pieces.lengths),
        shape=(pieces.size, sequence_length),
    )
