"""From stored tokens to a `tf.data.Dataset`: gather, pad, prefetch; the plan decides the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tfllm.data.plan import BlockPlan
from tfllm.data.store import TokenStore

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["TokenBlocks"]

Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


class TokenBlocks:
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

    def batch(self, step: int) -> Batch:
        """Gather the blocks of one step.

        Returns:
            features `input_ids` and `segment_ids`, targets, all `<int32>[global batch,
            positions]`, and weights `<float32>[global batch, positions]`: 0 beyond the stream's
            end and in rows that an epoch's last step lacks.

        Example:
            stream 0 5 6 0 7 0, start 0, three positions → input 0 5 6 | 0 7 0, targets
            5 6 0 | 7 0 0, weights 1 1 1 | 1 1 0, segments 1 1 1 | 1 1 2.
        """
        plan, start_id = self.plan, self.store.manifest.start_id
        starts = plan.block_starts(step)
        places = starts[:, None] + np.arange(plan.sequence_length + 1)
        real = places < plan.tokens
        window = np.where(real, self.store.tokens[np.minimum(places, plan.tokens - 1)], start_id)
        missing = [(0, plan.global_batch_size - len(starts)), (0, 0)]
        window = np.pad(window.astype(np.int32), missing, constant_values=start_id)
        weights = np.pad(real[:, 1:].astype(np.float32), missing)
        inputs = window[:, :-1]
        segments = np.cumsum(inputs == start_id, axis=1, dtype=np.int32)
        return {"input_ids": inputs, "segment_ids": segments}, window[:, 1:], weights

    def dataset(self, first_step: int = 0, steps: int | None = None) -> tf.data.Dataset:
        """Give the batches of some steps, of one static shape, prefetched.

        Args:
            first_step: where to start; costs the same for every value.
            steps: how many; None for one pass.

        Returns:
            `(features, targets, weights)`, see `batch`.
        """
        import tensorflow as tf

        count = self.steps_per_epoch if steps is None else steps
        shape = [self.plan.global_batch_size, self.plan.sequence_length]
        ids = tf.TensorSpec(shape, tf.int32)
        features = {"input_ids": ids, "segment_ids": ids}

        def batches() -> Iterator[Batch]:
            for step in range(first_step, first_step + count):
                yield self.batch(step)

        dataset = tf.data.Dataset.from_generator(
            batches, output_signature=(features, ids, tf.TensorSpec(shape, tf.float32))
        )
        options = tf.data.Options()
        options.deterministic = True
        # Every worker makes the whole global batch and takes its own rows of it.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
        return dataset.with_options(options).prefetch(2)
