"""Rows of a ragged column, side by side."""

from __future__ import annotations

import numpy as np

from tfllm.data.array_store import ArrayStore

__all__ = ["padded_rows"]


def padded_rows(store: ArrayStore, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gather rows, as wide as the longest of them.

    Args:
        store: with the column.
        column: of integers, ragged.
        rows: `<int64>[n]`.

    Returns:
        the values and where there are any, 1 or 0, `<int32>[n, width]` each, width at least 1.
    """
    offsets, values = store.offsets(column), store.values(column)
    first, end = offsets[rows], offsets[rows + 1]
    places = np.arange(max(1, int((end - first).max(initial=0))))
    inside = places < (end - first)[:, None]
    padded = np.zeros(inside.shape, np.int32)
    padded[inside] = values[(first[:, None] + places)[inside]]
    return padded, inside.astype(np.int32)
