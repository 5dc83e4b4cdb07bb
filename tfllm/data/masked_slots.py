"""Masked places as a matrix, a row's places one after another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["MaskedSlots", "fill_slots"]


class MaskedSlots(NamedTuple):
    """`[rows, slots]` each, with as many slots as the row with most masks needs, at least one.

    Attributes:
        positions: `<int32>`, place within the row; 0 in unused slots.
        targets: `<int32>`, what stood there; 0 in unused slots.
        weights: `<float32>`, 1 in used slots.
    """

    positions: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def fill_slots(
    rows: np.ndarray, positions: np.ndarray, targets: np.ndarray, num_rows: int
) -> MaskedSlots:
    """Deal masked tokens to slots.

    Args:
        rows: `<int64>[masked]`, rising.
        positions: `<int64>[masked]`.
        targets: `<int>[masked]`.
        num_rows: of the batch.

    Example:
        rows 0 0 2, positions 3 5 1, targets 8 9 7, three rows → positions 3 5 | 0 0 | 1 0,
        targets 8 9 | 0 0 | 7 0, weights 1 1 | 0 0 | 1 0.
    """
    counts = np.bincount(rows, minlength=num_rows)
    slot = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    shape = (num_rows, max(1, int(counts.max(initial=0))))
    slots = MaskedSlots(
        np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    )
    for matrix, values in zip(slots, (positions, targets, 1), strict=True):
        matrix[rows, slot] = values
    return slots
