"""Batches of a fixed number of rows of like length."""

from __future__ import annotations

import numpy as np

from tfllm.data.epochs import check_batch_size, place_in_epoch
from tfllm.data.length_order import LengthOrder
from tfllm.data.permutation import permuted, random_number
from tfllm.data.step_rows import StepRows

__all__ = ["BucketPlan"]

# Lengths that differ by less are shuffled together, so that a batch isn't the same in each epoch.
_LIKE = 1.04


class BucketPlan:
    """Deals rows of like length to each step, as wide as the longest of them.

    All rows stand in a line by length. Rows of like length (within 4%) change places at random,
    the line is cut into batches, and the batches come in random order. The one batch that lacks
    rows is anywhere in the line, so that the cuts move.

    Building it sorts the lengths once; it keeps 8 bytes a row.

    Attributes:
        global_batch_size: rows of a step.
        seed: decides the order; None: shortest first, for validation.
    """

    def __init__(self, lengths: np.ndarray, global_batch_size: int, seed: int | None) -> None:
        """Sort.

        Args:
            lengths: `<int64>[rows]`, tokens of each row.
            global_batch_size: rows of a step.
            seed: decides the order; None: shortest first.
        """
        check_batch_size(global_batch_size)
        self.global_batch_size = global_batch_size
        self.seed = seed
        self._lengths = np.asarray(lengths).astype(np.int32)
        self._order = LengthOrder(*_groups(self._lengths))

    @property
    def num_rows(self) -> int:
        """Rows of the store."""
        return len(self._lengths)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; one of them perhaps has fewer rows."""
        return -(-self.num_rows // self.global_batch_size)

    def rows(self, step: int, worker: int = 0, workers: int = 1) -> StepRows:
        """Rows of a step, or one worker's share of them; all workers have the same width."""
        epoch, at = place_in_epoch(step, self.steps_per_epoch)
        first, end = self._cut(epoch, at)
        places = np.arange(first, end, dtype=np.int64)
        rows = self._order.rows(places, self.seed, epoch)
        width = max(1, int(self._lengths[rows].max()))
        return StepRows(rows, self.global_batch_size, width).share(worker, workers)

    def _cut(self, epoch: int, at: int) -> tuple[int, int]:
        """Places in the line of the batch that comes at a step of an epoch."""
        steps, size = self.steps_per_epoch, self.global_batch_size
        missing = steps * size - self.num_rows
        short = steps - 1
        if self.seed is not None:
            short = random_number(steps, self.seed, epoch)
            at = int(permuted(np.array([at]), steps, self.seed, epoch)[0])
        first = at * size - (missing if at > short else 0)
        return first, first + size - (missing if at == short else 0)


def _groups(lengths: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the groups of like length, shortest first."""
    if not len(lengths):
        return np.zeros(0, np.int64), 0
    group_of = np.zeros(int(lengths.max()) + 1, np.int64)
    shortest = 0
    for length in range(1, len(group_of)):
        begins = length > _LIKE * shortest
        shortest = length if begins else shortest
        group_of[length] = group_of[length - 1] + begins
    return group_of[lengths], int(group_of[-1]) + 1
