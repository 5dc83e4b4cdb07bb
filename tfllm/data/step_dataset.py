"""Batches of steps as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Batch", "step_dataset"]

# Features, targets and weights; targets and weights of several objectives are dicts by its name.
Batch = tuple[dict[str, np.ndarray], Any, Any]


def step_dataset(
    batch: Callable[[int], Batch],
    signature: Any,
    first_step: int,
    steps: int,
    *,
    shared_out: bool = False,
) -> tf.data.Dataset:
    """Give the batches of successive steps, in order, two of them made ahead.

    Args:
        batch: gives the batch of any step.
        signature: nested `tf.TensorSpec`s of a batch.
        first_step: where to start; costs the same for every value.
        steps: how many.
        shared_out: whether a batch is one worker's share already; else, under a strategy of
            several workers, each makes the whole global batch and takes its own rows of it.
    """
    import tensorflow as tf

    def batches() -> Iterator[Batch]:
        for step in range(first_step, first_step + steps):
            yield batch(step)

    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    options = tf.data.Options()
    options.deterministic = True
    policies = tf.data.experimental.AutoShardPolicy
    policy = policies.OFF if shared_out else policies.DATA
    options.experimental_distribute.auto_shard_policy = policy
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.with_options(options).prefetch(2)
