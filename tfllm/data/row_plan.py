"""The rows of a store in random order, or in their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfllm.data.epochs import check_batch_size, place_in_epoch
from tfllm.data.permutation import permuted
from tfllm.data.step_rows import StepRows

__all__ = ["RowPlan"]


@dataclass(frozen=True)
class RowPlan:
    """Deals rows to steps, each row once in an epoch; keeps nothing in memory.

    Without a seed it is the order for validation: every row once, the last batch with what is
    left.

    Attributes:
        num_rows: rows of the store.
        global_batch_size: rows of a step.
        seed: decides the order; None for the store's own.
    """

    num_rows: int
    global_batch_size: int
    seed: int | None

    def __post_init__(self) -> None:
        """Check the batch size."""
        check_batch_size(self.global_batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the last perhaps with fewer rows."""
        return -(-self.num_rows // self.global_batch_size)

    def rows(self, step: int, worker: int = 0, workers: int = 1) -> StepRows:
        """Rows of a step, or one worker's share of them; see `RowsPlan`."""
        epoch, at = place_in_epoch(step, self.steps_per_epoch)
        first = at * self.global_batch_size
        rows = np.arange(first, min(first + self.global_batch_size, self.num_rows), dtype=np.int64)
        if self.seed is not None:
            rows = permuted(rows, self.num_rows, self.seed, epoch)
        return StepRows(rows, self.global_batch_size, None).share(worker, workers)
