"""The rows of a store that a step reads."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from tfllm.data.worker_share import worker_share

__all__ = ["RowsPlan", "StepRows"]


class StepRows(NamedTuple):
    """What a plan says of a step.

    Attributes:
        rows: `<int64>[n]`, n at most `size`.
        size: rows of the batch, missing ones included; an epoch's last batch may lack some.
        width: tokens of a row when padded; None: as many as the longest has.
    """

    rows: np.ndarray
    size: int
    width: int | None

    def share(self, worker: int, workers: int) -> StepRows:
        """Give one worker's part, of equal size and width for all."""
        places = worker_share(self.size, worker, workers)
        return StepRows(self.rows[places], places.stop - places.start, self.width)


class RowsPlan(Protocol):
    """Which rows of a store a step reads: a pure function of the seed and the step."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, in which each row is read exactly once."""
        ...

    def rows(self, step: int, worker: int = 0, workers: int = 1) -> StepRows:
        """Rows of a step, or one worker's share of them.

        Args:
            step: counts optimizer steps from 0, through all epochs.
            worker: counts from 0.
            workers: how many share the step's rows; their shares are disjoint.
        """
        ...
