"""Batches of several sources in turn, as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfllm.data.mixture_plan import MixturePlan
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["MixedBatches"]


class MixedBatches(StepBatches):
    """Each step's batch comes from one of several sources, which a plan chooses.

    Attributes:
        sources: `TokenBlocks`, `PackedDocuments` or `RowBatches`, with equal features.
        plan: which source each step reads, and which of the source's own steps.
    """

    def __init__(self, sources: Sequence[StepBatches], plan: MixturePlan) -> None:
        """Check that there are as many sources as weights."""
        if len(sources) != len(plan.counts):
            raise InputError(
                f"{len(sources)} sources are mixed by {len(plan.counts)} weights. Give each one"
            )
        self.sources = list(sources)
        self.plan = plan

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a window, in which each source has exactly its share."""
        return self.plan.window

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather the batch of one step, or one worker's share of it.

        Returns:
            the batch of a source, with one feature more: `source` `<int32>[rows]`, its number.
        """
        source, own_step = self.plan.source(step)
        features, targets, weights = self.sources[source].batch(own_step, worker, workers)
        number = np.full(len(weights), source, np.int32)
        return {**features, "source": number}, targets, weights

    def signature(self, workers: int = 1) -> Any:
        """Specs that hold for every source.

        Raises:
            InputError: if the sources' batches have different features or dtypes.
        """
        import tensorflow as tf

        specs = [source.signature(workers) for source in self.sources]
        widest = [tf.nest.map_structure(_any_size, spec) for spec in specs]
        if any(spec != widest[0] for spec in widest):
            raise InputError(
                "sources of a mixture must give batches of the same features, targets and ranks. "
                f"Received: {'; '.join(str(sorted(spec[0])) for spec in widest)}"
            )
        features, targets, weights = widest[0]
        return {**features, "source": tf.TensorSpec([None], tf.int32)}, targets, weights


def _any_size(spec: tf.TensorSpec) -> tf.TensorSpec:
    import tensorflow as tf

    return tf.TensorSpec([None] * spec.shape.rank, spec.dtype)
