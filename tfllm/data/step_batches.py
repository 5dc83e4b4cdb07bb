"""What all sources of batches share: any step's batch, and successive ones as a dataset."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tfllm.data.step_dataset import Batch, step_dataset

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["StepBatches"]


class StepBatches(ABC):
    """Batches addressed by step: the same step is the same batch, whenever it is asked for.

    Attributes:
        store: where rows come from, of those that have one.
        plan: which rows each step reads.
    """

    store: Any
    plan: Any

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""

    @abstractmethod
    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Give the batch of one step, or one worker's share of it.

        Args:
            step: counts optimizer steps from 0, through all epochs.
            worker: counts from 0.
            workers: how many share the rows of each step.

        Returns:
            features, targets and weights.
        """

    @abstractmethod
    def signature(self, workers: int = 1) -> Any:
        """Nested `tf.TensorSpec`s of a batch, or of one worker's share."""

    def identity(self) -> dict[str, str]:
        """Say what a run that is continued must find as it was, in words → its value."""
        manifest = self.store.manifest
        return {
            "training data": manifest.source,
            # Vocabulary, labels or template, and lengths.
            "encoding": json.dumps(manifest.encoder, sort_keys=True),
        }

    def rows_of(self, step: int) -> Iterable[int | str]:
        """Name the rows of a step, for messages."""
        return self.plan.rows(step).rows

    def task_of(self, step: int) -> str:
        """Name the task of a step, where several take turns; else "": all steps are alike."""
        return ""

    def dataset(
        self, first_step: int = 0, steps: int | None = None, *, worker: int = 0, workers: int = 1
    ) -> tf.data.Dataset:
        """Give the batches of some steps, prefetched.

        Args:
            first_step: where to start; costs the same for every value.
            steps: how many; None for one pass.
            worker: counts from 0.
            workers: how many share the rows of each step.

        Returns:
            `(features, targets, weights)`, see `batch`.
        """
        return step_dataset(
            lambda step: self.batch(step, worker, workers),
            self.signature(workers),
            first_step,
            self.steps_per_epoch if steps is None else steps,
            shared_out=workers > 1,
        )
