"""Rows sorted by length, in groups of like length that are shuffled within."""

from __future__ import annotations

import numpy as np

from tfllm.data.permutation import permuted

__all__ = ["LengthOrder"]


class LengthOrder:
    """The rows of a store by group, each group in an order that an epoch shuffles.

    Takes 4 bytes a row below 2³² rows, and looking up a place costs the same for every epoch.

    Attributes:
        bounds: `<int64>[groups + 1]`: group g holds places `bounds[g]` to `bounds[g + 1] - 1`.
    """

    def __init__(self, groups: np.ndarray, num_groups: int) -> None:
        """Sort.

        Args:
            groups: `<int64>[rows]`, group of each row, in `[0, num_groups)`.
            num_groups: at most 65,536.
        """
        # Of 16 bits, numpy's stable sort is a radix sort: its time grows with the rows alone.
        order = np.argsort(groups.astype(np.uint16), kind="stable")
        self._order = order.astype(np.uint32 if len(order) < 1 << 32 else np.int64)
        counts = np.bincount(groups, minlength=num_groups)
        self.bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def rows(self, places: np.ndarray, seed: int | None, epoch: int) -> np.ndarray:
        """Row at each place, `<int64>[n]`; over all places each row comes out once.

        Args:
            places: `<int64>[n]`.
            seed: shuffles within the groups; None for the store's order within each.
            epoch: another order for each.
        """
        if seed is not None:
            group = np.searchsorted(self.bounds, places, side="right") - 1
            first, size = self.bounds[group], np.diff(self.bounds)[group]
            places = first + permuted(places - first, size, seed, epoch, group + 1)
        return self._order[places].astype(np.int64)
