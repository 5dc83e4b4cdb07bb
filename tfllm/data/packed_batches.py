"""What batches of packed rows share: their sizes follow from the plan."""

from __future__ import annotations

from tfllm.data.packed_row_plan import PackedRowPlan
from tfllm.data.step_batches import StepBatches

__all__ = ["PackedBatches"]


class PackedBatches(StepBatches):
    """Batches whose rows each hold several rows of a store.

    Attributes:
        plan: which rows of the store each step's packed rows hold.
    """

    plan: PackedRowPlan

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.plan.steps_per_epoch

    @property
    def row_tokens(self) -> int:
        """Positions of a row."""
        return self.plan.sequence_length

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step computes on, all positions of its rows."""
        return self.plan.global_batch_size * self.plan.sequence_length
