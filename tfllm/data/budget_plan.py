"""Batches of about the same number of tokens, each of one of a few widths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfllm.data.epochs import place_in_epoch
from tfllm.data.length_order import LengthOrder
from tfllm.data.permutation import permuted
from tfllm.data.step_rows import StepRows
from tfllm.errors import InputError

__all__ = ["BudgetPlan"]


class BudgetPlan:
    """Deals rows to steps under a budget of tokens: few long rows, or many short ones.

    A row goes to the least width that holds it. Each width has its own number of rows a batch, so
    that there are as many shapes as widths; rows of a width are shuffled, cut into batches, and
    all batches come in random order. The last batch of each width may lack rows.

    Attributes:
        widths: rising.
        rows_of_width: rows of a batch of each width.
        seed: decides the order; None: narrowest first.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        widths: Sequence[int],
        *,
        token_budget: int,
        rows_multiple: int = 1,
        seed: int | None = None,
    ) -> None:
        """Sort the rows by width.

        Args:
            lengths: `<int64>[rows]`, tokens of each row.
            widths: rising; `choose_widths` finds good ones.
            token_budget: positions of a global batch, at most.
            rows_multiple: a batch's rows are a multiple of it: replicas × micro-batches.
            seed: decides the order; None: narrowest first.

        Raises:
            InputError: if a row is longer than the last width, or a batch of it above the budget.
        """
        self.widths = np.asarray(widths, np.int64)
        self.rows_of_width = token_budget // self.widths // rows_multiple * rows_multiple
        self.seed = seed
        longest = int(np.max(lengths, initial=0))
        if longest > self.widths[-1]:
            raise InputError(
                f"a row has {longest} tokens, and the widest batch {self.widths[-1]}. Truncate "
                "rows, or add a width"
            )
        if self.rows_of_width[-1] < 1:
            raise InputError(
                f"{rows_multiple} rows of {self.widths[-1]} tokens, the least that can be dealt "
                f"out, are above the budget of {token_budget} tokens. Give a larger one"
            )
        self._order = LengthOrder(np.searchsorted(self.widths, lengths), len(self.widths))
        batches = -(-np.diff(self._order.bounds) // self.rows_of_width)
        self._batches = np.concatenate([[0], np.cumsum(batches)])

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return int(self._batches[-1])

    def rows(self, step: int, worker: int = 0, workers: int = 1) -> StepRows:
        """Rows of a step, or one worker's share of them; see `RowsPlan`."""
        epoch, at = place_in_epoch(step, self.steps_per_epoch)
        if self.seed is not None:
            at = int(permuted(np.array([at]), self.steps_per_epoch, self.seed, epoch)[0])
        width = int(np.searchsorted(self._batches, at, side="right")) - 1
        size = int(self.rows_of_width[width])
        first = int(self._order.bounds[width] + (at - self._batches[width]) * size)
        places = np.arange(first, min(first + size, self._order.bounds[width + 1]), dtype=np.int64)
        rows = self._order.rows(places, self.seed, epoch)
        return StepRows(rows, size, int(self.widths[width])).share(worker, workers)
