"""Accuracy of parts of a data set: where a model is weak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["length_buckets", "slices"]


def slices(correct: np.ndarray, by: Mapping[str, Sequence[str] | np.ndarray]) -> dict[str, float]:
    """Give the accuracy of every part of the rows.

    Args:
        correct: `<bool>[rows]`.
        by: what to part by → the name of each row's part.

    Returns:
        `accuracy/<what> <part>` for each part that has rows, in the order in which they first
        occur.

    Example:
        correct 1 0 1, by label → a b a: `{"accuracy/label a": 1.0, "accuracy/label b": 0.0}`.
    """
    correct = np.asarray(correct, bool)
    found = {}
    for what, parts in by.items():
        names, first, of_row = np.unique(
            np.asarray(parts, dtype=object).astype(str), return_index=True, return_inverse=True
        )
        rows = np.bincount(of_row, minlength=len(names))
        right = np.bincount(of_row, weights=correct, minlength=len(names))
        for part in np.argsort(first):
            found[f"accuracy/{what} {names[part]}"] = float(right[part] / rows[part])
    return found


def length_buckets(
    lengths: np.ndarray, bounds: Sequence[int] = (8, 16, 32, 64, 128, 256, 512)
) -> list[str]:
    """Name the range of lengths that each row falls into.

    Args:
        lengths: `<int>[rows]`.
        bounds: longest length of each range, rising.

    Example:
        lengths 3 8 9 600 → `["0-8", "0-8", "9-16", "513-"]`.
    """
    firsts = [0, *(bound + 1 for bound in bounds)]
    names = [f"{first}-{last}" for first, last in zip(firsts, bounds, strict=False)]
    names.append(f"{firsts[-1]}-")
    return [names[bucket] for bucket in np.searchsorted(bounds, lengths)]
