"""Rows of documents, packed and masked, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfllm.data.array_store import ArrayStore
from tfllm.data.epochs import place_in_epoch
from tfllm.data.masked_slots import fill_slots
from tfllm.data.masking.masking import Masking
from tfllm.data.packed_batches import PackedBatches
from tfllm.data.packed_layout import lay_out
from tfllm.data.packed_row_plan import PackedRowPlan
from tfllm.data.step_dataset import Batch
from tfllm.data.worker_share import worker_share

__all__ = ["MaskedRows"]


class MaskedRows(PackedBatches):
    """Rows of a `DocumentRowEncoder`, several packed into one, as batches for a masked model.

    None is cut, and none sees another. Masks are drawn for each of them in each epoch, whatever
    stands beside it.

    Attributes:
        store: ragged columns `input_ids` and `word_starts`.
        plan: which of its rows each step's packed rows hold.
        masking: what is masked.
    """

    def __init__(
        self,
        store: ArrayStore,
        masking: Masking,
        *,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None = None,
        pad_id: int = 0,
    ) -> None:
        """Pack the rows.

        Args:
            store: see the class.
            masking: what is masked.
            sequence_length: positions of a packed row.
            global_batch_size: packed rows of a step.
            seed: shuffles and draws; None for a fixed order and, in every epoch, the same masks.
            pad_id: stands on padding.

        Raises:
            InputError: if a row of the store is longer than a packed one.
        """
        self.store = store
        self.masking = masking
        offsets = store.offsets("input_ids")
        self.plan = PackedRowPlan(offsets, sequence_length, global_batch_size, seed)
        self._pad_id = pad_id

    def __str__(self) -> str:
        """Say how much it is, for a person."""
        counts = self.store.manifest.counts
        return (
            f"{counts['documents']:,} documents, {counts['text_bytes']:,} bytes, "
            f"{self.plan.tokens:,} tokens in {self.plan.num_rows:,} rows, "
            f"{self.plan.real_share:.1%} full"
        )

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather and mask the rows of one step, or one worker's share of them.

        Returns:
            features `input_ids`, `attention_mask` (1 on tokens) and `segment_ids` (1, 2, … in each
            row; 0 on padding), `<int32>[rows, positions]`, and `masked_positions`
            `<int32>[rows, slots]`; targets `{"masked_lm": <int32>[rows, slots]}`; weights
            `{"masked_lm": <float32>[rows, slots]}`, 0 in unused slots and in rows that the step
            lacks. Backbones number positions by segment, each family as it does.

        Example:
            [CLS] a b [SEP] and [CLS] c [SEP], eight positions, b masked → input [CLS] a [MASK]
            [SEP] [CLS] c [SEP] [PAD], segments 1 1 1 1 2 2 2 0, masked positions 2, targets b.
        """
        pieces = self.plan.pieces(step, worker, workers)
        layout = lay_out(pieces, self.plan.sequence_length)
        ids = self.store.values("input_ids")[layout.source].astype(np.int64)
        masked = self.masking.draw(
            ids,
            self.store.values("word_starts")[layout.source],
            pieces.lengths,
            self.plan.rows_of(pieces),
            seed=self.plan.seed or 0,
            epoch=self._epoch(step),
        )
        rows, positions = np.divmod(layout.place[masked.places], self.plan.sequence_length)
        slots = fill_slots(rows, positions, ids[masked.places], pieces.size)
        ids[masked.places] = masked.ids
        features = {
            "input_ids": layout.put(ids, self._pad_id),
            "attention_mask": layout.put(np.ones_like(ids), 0),
            "segment_ids": layout.put(layout.segment, 0),
            "masked_positions": slots.positions,
        }
        return features, {"masked_lm": slots.targets}, {"masked_lm": slots.weights}

    def signature(self, workers: int = 1) -> Any:
        """Specs in which the slots are unknown."""
        import tensorflow as tf

        share = worker_share(self.plan.global_batch_size, 0, workers)
        rows = share.stop - share.start
        ids = tf.TensorSpec([rows, self.plan.sequence_length], tf.int32)
        slots = tf.TensorSpec([rows, None], tf.int32)
        features = dict.fromkeys(("input_ids", "attention_mask", "segment_ids"), ids)
        weights = tf.TensorSpec([rows, None], tf.float32)
        return features | {"masked_positions": slots}, {"masked_lm": slots}, {"masked_lm": weights}

    def _epoch(self, step: int) -> int:
        return 0 if self.plan.seed is None else place_in_epoch(step, self.steps_per_epoch)[0]
