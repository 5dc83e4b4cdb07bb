"""Documents, packed into rows, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfllm.data.packed_plan import PackedPlan
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.data.store import TokenStore

__all__ = ["PackedDocuments"]


class PackedDocuments(StepBatches):
    """Documents packed into rows, as batches for a causal language model.

    Attributes:
        store: the documents.
        plan: which pieces of documents each step's rows hold.
        text_bytes: UTF-8 bytes of the text that was tokenized.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None = None,
        end_id: int | None = None,
    ) -> None:
        """Pack the documents; takes seconds for ten million.

        Args:
            store: the documents, each beginning with its start token.
            sequence_length: positions of a row.
            global_batch_size: rows of a step.
            seed: shuffles; None for a fixed order.
            end_id: what is to be predicted after a document's last token; None for the start
                token, as where one token both starts and ends documents.
        """
        self.store = store
        self.text_bytes = store.manifest.text_bytes
        self.plan = PackedPlan(store.offsets, sequence_length, global_batch_size, seed)
        self._end_id = store.manifest.start_id if end_id is None else end_id

    def __str__(self) -> str:
        """Say how much it is, for a person."""
        held = self.store.manifest
        return (
            f"{held.documents:,} documents, {held.text_bytes:,} bytes, {self.targets:,} tokens in "
            f"{self.plan.num_rows:,} rows, {self.plan.real_share:.1%} full"
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.plan.steps_per_epoch

    @property
    def targets(self) -> int:
        """Number of tokens to predict in one pass, the ends of documents included."""
        return self.plan.tokens

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather the rows of one step, or one worker's share of them.

        Returns:
            features `input_ids`, `segment_ids` (1, 2, … in each row; 0 on padding) and
            `position_ids` (from 0 in each segment), targets, all `<int32>[rows, positions]`, and
            weights `<float32>[rows, positions]`: 0 on padding and in rows that an epoch's last
            step lacks. The first token of a piece after a cut is the target of the last one
            before it; the target of a document's last token is the end token.

        Example:
            documents 0 5 6 and 0 7, start and end 0, six positions → input 0 5 6 0 7 0, segments
            1 1 1 2 2 0, positions 0 1 2 0 1 0, targets 5 6 0 7 0 0, weights 1 1 1 1 1 0.
        """
        pieces = self.plan.pieces(step, worker, workers)
        columns, segments = _lay_out(pieces.rows, pieces.lengths)
        total = int(pieces.lengths.sum())
        before = np.cumsum(pieces.lengths) - pieces.lengths
        position = np.arange(total) - np.repeat(before, pieces.lengths)
        source = np.repeat(pieces.starts, pieces.lengths) + position
        place = np.repeat(pieces.rows * self.plan.sequence_length + columns, pieces.lengths)
        place += position
        tokens = self.store.tokens
        targets = tokens[np.minimum(source + 1, len(tokens) - 1)].astype(np.int32)
        targets[(before + pieces.lengths - 1)[pieces.ends]] = self._end_id

        def put(values: np.ndarray | float, padding: int, dtype: type = np.int32) -> np.ndarray:
            rows: np.ndarray = np.full(pieces.size * self.plan.sequence_length, padding, dtype)
            rows[place] = values
            return rows.reshape(pieces.size, self.plan.sequence_length)

        features = {
            "input_ids": put(tokens[source], self._end_id),
            "segment_ids": put(np.repeat(segments, pieces.lengths), 0),
            "position_ids": put(position, 0),
        }
        return features, put(targets, self._end_id), put(1.0, 0, np.float32)

    def signature(self, workers: int = 1) -> Any:
        """Specs of one static shape."""
        import tensorflow as tf

        shape = [self.plan.global_batch_size // workers, self.plan.sequence_length]
        ids = tf.TensorSpec(shape, tf.int32)
        features = dict.fromkeys(("input_ids", "segment_ids", "position_ids"), ids)
        return features, ids, tf.TensorSpec(shape, tf.float32)


def _lay_out(rows: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place pieces one after another in their rows.

    Args:
        rows: `<int64>[pieces]`, rising.
        lengths: `<int64>[pieces]`.

    Returns:
        first column and number in the row, from 1, `<int64>[pieces]` each.
    """
    number = np.arange(len(rows))
    first = np.searchsorted(rows, rows)  # the first piece of the same row
    before = np.cumsum(lengths) - lengths
    return before - before[first], number - first + 1
