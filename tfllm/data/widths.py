"""A few widths that rows are padded to."""

from __future__ import annotations

import numpy as np

__all__ = ["choose_widths"]

# The work grows with the square of the number of lengths.
_MOST_LENGTHS = 1024


def choose_widths(lengths: np.ndarray, count: int = 20, multiple: int = 1) -> list[int]:
    """Choose the widths that waste least: the fewest padded positions over all rows.

    Args:
        lengths: `<int64>[rows]`, tokens of each row.
        count: at most so many widths.
        multiple: each is a multiple of it; of a greater one where there are more than 1,024
            lengths to choose from.

    Returns:
        rising widths; the last holds the longest row.

    Example:
        lengths 3 3 3 9 10, two widths → 3 and 10, and one position is padding.
    """
    if not len(lengths):
        raise ValueError("there are no rows to choose widths for")
    # Lengths in units of `multiple`; only those that occur can be best.
    units, rows = np.unique(-(-np.maximum(lengths, 1) // multiple), return_counts=True)
    if len(units) > _MOST_LENGTHS:
        return choose_widths(lengths, count, 2 * multiple)
    before = np.concatenate([[0], np.cumsum(rows)])
    # taken[i, j]: positions that the rows of units i … j take when they are as wide as unit j.
    taken = (before[None, 1:] - before[:-1, None]) * units[None, :]
    taken = np.where(np.arange(len(units))[:, None] <= np.arange(len(units)), taken, np.inf)
    best, choices = taken[0], []
    for _ in range(min(count, len(units)) - 1):
        # One width more: the rows up to i as before, those after it as wide as unit j.
        total = np.concatenate([taken[:1], best[:-1, None] + taken[1:]])
        choices.append(total.argmin(axis=0))
        best = total.min(axis=0)
    end = len(units) - 1
    chosen = []
    for choice in reversed(choices):
        chosen.append(end)
        end = int(choice[end]) - 1
        if end < 0:
            break
    else:
        chosen.append(end)
    return [int(units[i]) * multiple for i in sorted(chosen)]
