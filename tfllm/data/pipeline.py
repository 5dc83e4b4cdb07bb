"""A stream of tokens, cut into blocks, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfllm.data.plan import BlockPlan
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.data.store import TokenStore

__all__ = ["TokenBlocks"]


class TokenBlocks(StepBatches):
    """A token stream cut into blocks, as batches for a causal language model.

    Attributes:
        store: the token stream.
        plan: which blocks each step reads.
        text_bytes: UTF-8 bytes of the text that was tokenized.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None = None,
    ) -> None:
        """Plan the blocks.

        Args:
            store: the token stream. Each of its start tokens begins a document, which does not
                see the ones before it.
            sequence_length: positions of a block.
            global_batch_size: blocks of a step.
            seed: shuffles; None keeps the stream's order and visits every target exactly once.
        """
        self.store = store
        self.text_bytes = store.manifest.text_bytes
        self.plan = BlockPlan(store.manifest.tokens, sequence_length, global_batch_size, seed)

    def __str__(self) -> str:
        """Say how much it is, for a person."""
        held = self.store.manifest
        return f"{held.documents:,} documents, {held.text_bytes:,} bytes, {held.tokens:,} tokens"

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.plan.steps_per_epoch

    @property
    def targets(self) -> int:
        """Number of tokens to predict in one unshuffled pass, the ends of documents included."""
        return self.store.manifest.tokens - 1

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather the blocks of one step, or one worker's share of them.

        Returns:
            features `input_ids` and `segment_ids`, targets, all `<int32>[rows, positions]`, and
            weights `<float32>[rows, positions]`: 0 beyond the stream's end and in rows that an
            epoch's last step lacks.

        Example:
            stream 0 5 6 0 7 0, start 0, three positions → input 0 5 6 | 0 7 0, targets
            5 6 0 | 7 0 0, weights 1 1 1 | 1 1 0, segments 1 1 1 | 1 1 2.
        """
        plan, start_id = self.plan, self.store.manifest.start_id
        starts = plan.block_starts(step, worker, workers)
        places = starts[:, None] + np.arange(plan.sequence_length + 1)
        real = places < plan.tokens
        held = places < len(self.store.tokens)  # all but the token that ends the stream
        window = np.where(held, self.store.tokens[np.where(held, places, 0)], start_id)
        missing = [(0, plan.global_batch_size // workers - len(starts)), (0, 0)]
        window = np.pad(window.astype(np.int32), missing, constant_values=start_id)
        weights = np.pad(real[:, 1:].astype(np.float32), missing)
        inputs = window[:, :-1]
        segments = np.cumsum(inputs == start_id, axis=1, dtype=np.int32)
        return {"input_ids": inputs, "segment_ids": segments}, window[:, 1:], weights

    def signature(self, workers: int = 1) -> Any:
        """Specs of one static shape."""
        import tensorflow as tf

        shape = [self.plan.global_batch_size // workers, self.plan.sequence_length]
        ids = tf.TensorSpec(shape, tf.int32)
        features = {"input_ids": ids, "segment_ids": ids}
        return features, ids, tf.TensorSpec(shape, tf.float32)
