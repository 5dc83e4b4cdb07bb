"""Many ranges of numbers at once."""

from __future__ import annotations

import numpy as np

__all__ = ["expand"]


def expand(first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the numbers from `first[i]` to `end[i] - 1`, for every i, with their i.

    Args:
        first: `<int64>[ranges]`.
        end: `<int64>[ranges]`, not below `first`.

    Returns:
        i and the numbers, `<int64>[numbers]` each.

    Example:
        first 0 5, end 2 6 → i 0 0 1, numbers 0 1 5.
    """
    counts = end - first
    i = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return i, np.arange(len(i)) - before[i] + first[i]
