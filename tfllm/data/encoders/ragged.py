"""Rows of different lengths, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Ragged"]


class Ragged(NamedTuple):
    """A column whose rows hold different numbers of values.

    Attributes:
        values: `[values]` of any number type, row after row.
        lengths: `<int64>[rows]`, values of each row.
    """

    values: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], dtype: np.dtype[Any]) -> Ragged:
        """Join rows.

        Example:
            [[5, 6], [], [7]] → values 5 6 7, lengths 2 0 1.
        """
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        values = np.empty(int(lengths.sum()), dtype)
        end = 0
        for row in rows:
            start, end = end, end + len(row)
            values[start:end] = row
        return cls(values, lengths)
