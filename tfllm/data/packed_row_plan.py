"""The rows of a store, several to a packed row, none of them cut."""

from __future__ import annotations

import numpy as np

from tfllm.data.packed_plan import PackedPlan, StepPieces
from tfllm.data.step_rows import StepRows
from tfllm.errors import InputError

__all__ = ["PackedRowPlan"]


class PackedRowPlan(PackedPlan):
    """Packs a store's rows as `PackedPlan` does documents; says which of them a step reads."""

    def __init__(
        self,
        offsets: np.ndarray,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None,
    ) -> None:
        """Pack; see `PackedPlan`.

        Raises:
            InputError: if a row of the store is longer than a packed one.
        """
        longest = int(np.diff(offsets).max(initial=0))
        if longest > sequence_length:
            raise InputError(
                f"a row of the store has {longest} tokens, and a packed row {sequence_length}: it "
                "would be cut. Encode with fewer tokens (max_tokens), or pack into longer rows"
            )
        super().__init__(offsets, sequence_length, global_batch_size, seed)
        self._offsets = offsets

    def rows(self, step: int, worker: int = 0, workers: int = 1) -> StepRows:
        """Rows of the store that a step reads, in the order of the batch; see `RowsPlan`."""
        rows = self.rows_of(self.pieces(step, worker, workers))
        return StepRows(rows, len(rows), self.sequence_length)

    def rows_of(self, pieces: StepPieces) -> np.ndarray:
        """Row of the store that each piece is, `<int64>[pieces]`."""
        return np.searchsorted(self._offsets, pieces.starts, side="right") - 1
