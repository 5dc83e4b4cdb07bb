"""Rows of a store with weights, packed several to a row, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfllm.data.array_store import ArrayStore
from tfllm.data.packed_batches import PackedBatches
from tfllm.data.packed_layout import lay_out
from tfllm.data.packed_row_plan import PackedRowPlan
from tfllm.data.step_dataset import Batch

__all__ = ["PackedRows"]

# Tokens that are looked at together.
_STRETCH = 1 << 20


class PackedRows(PackedBatches):
    """Examples of a `CompletionEncoder` packed into rows, as batches for a causal language model.

    Several stand in a row, none is cut, and none sees another: the loss of a batch is the sum of
    what each has alone.

    Attributes:
        store: ragged columns `input_ids`, `targets` and `weights`.
        plan: which examples each step's rows hold.
    """

    def __init__(
        self,
        store: ArrayStore,
        *,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None = None,
        end_id: int = 0,
    ) -> None:
        """Pack the examples.

        Args:
            store: see the class.
            sequence_length: positions of a packed row.
            global_batch_size: packed rows of a step.
            seed: shuffles; None for a fixed order.
            end_id: ends completions; also input and target on padding, where the weight is 0.

        Raises:
            InputError: if an example is longer than a packed row.
        """
        self.store = store
        offsets = store.offsets("input_ids")
        self.plan = PackedRowPlan(offsets, sequence_length, global_batch_size, seed)
        self._end_id = end_id

    def __str__(self) -> str:
        """Say how much it is, for a person."""
        return (
            f"{len(self.store):,} examples, {self.plan.tokens:,} tokens, {self.targets:,} of them "
            f"to predict, in {self.plan.num_rows:,} rows, {self.plan.real_share:.1%} full"
        )

    @property
    def targets(self) -> int:
        """Number of tokens to predict in one pass, the ends of completions included."""
        return int(np.sum(self.store.values("weights"), dtype=np.int64))

    @property
    def longest_completion(self) -> int:
        """Tokens of the longest completion, its end included."""
        ends = self.store.offsets("weights")
        longest, row = 0, 0
        # A stretch of whole rows at a time: no completion goes on in the next row.
        while row < len(ends) - 1:
            stop = int(np.searchsorted(ends, ends[row] + _STRETCH, "right")) - 1
            stop = max(stop, row + 1)
            longest = max(longest, self._longest_within(ends[row : stop + 1]))
            row = stop
        return longest

    def _longest_within(self, ends: np.ndarray) -> int:
        """The same of neighbouring rows, `<int64>[rows + 1]` where they begin and end."""
        tokens = slice(int(ends[0]), int(ends[-1]))
        learnt = np.array(self.store.values("weights")[tokens], np.int64)
        is_last = (learnt == 0) | (self.store.values("targets")[tokens] == self._end_id)
        is_last[(ends[1:] - ends[0] - 1)[np.diff(ends) > 0]] = True
        total = np.cumsum(learnt)[is_last]
        return int(np.diff(total, prepend=0).max(initial=0))

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather the rows of one step, or one worker's share of them.

        Returns:
            features `input_ids`, `segment_ids` (1, 2, … in each row; 0 on padding) and
            `position_ids` (from 0 in each segment), targets, all `<int32>[rows, positions]`, and
            weights `<float32>[rows, positions]`: 1 where something is to be learnt.

        Example:
            examples a b ▸ c and d ▸ e f, end 0, six positions → input a b c d e f, segments
            1 1 1 2 2 2, targets b c 0 e f 0, weights 0 1 1 1 1 1.
        """
        pieces = self.plan.pieces(step, worker, workers)
        layout = lay_out(pieces, self.plan.sequence_length)
        taken = {
            name: self.store.values(name)[layout.source] for name in self.store.manifest.columns
        }
        features = {
            "input_ids": layout.put(taken["input_ids"], self._end_id),
            "segment_ids": layout.put(layout.segment, 0),
            "position_ids": layout.put(layout.position, 0),
        }
        targets = layout.put(taken["targets"], self._end_id)
        return features, targets, layout.put(taken["weights"], 0, np.float32)

    def signature(self, workers: int = 1) -> Any:
        """Specs of one static shape."""
        import tensorflow as tf

        shape = [self.plan.global_batch_size // workers, self.plan.sequence_length]
        ids = tf.TensorSpec(shape, tf.int32)
        features = dict.fromkeys(("input_ids", "segment_ids", "position_ids"), ids)
        return features, ids, tf.TensorSpec(shape, tf.float32)
