"""The loss of one pass over some batches, without the other workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from tfllm.training.step import SummedLossModel

__all__ = ["MeanLoss"]

_SECONDS_WITHOUT_BAR = 2.0


class MeanLoss:
    """What `model.evaluate` gives as `loss`, measured by one process alone.

    `evaluate` adds over the workers of a strategy and has to be called by all of them; this runs on
    the first device of whoever calls it. One graph serves all passes.
    """

    def __init__(self, model: SummedLossModel, batches: Any) -> None:
        """Take a model and what it is measured on.

        Args:
            model: compiled or not.
            batches: `tfllm.data.StepBatches` whose pass visits every target once.
        """

        def run(
            features: Mapping[str, tf.Tensor], targets: tf.Tensor, weights: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            return model.loss_sum_and_weight(features, targets, weights, training=False)

        self._batches = batches
        self._run = tf.function(run, input_signature=batches.signature(), autograph=False)

    def measure(self) -> float:
        """Give the mean over all weight, in nats; 0 without any. A terminal shows a bar."""
        steps = tqdm(
            range(self._batches.steps_per_epoch),
            desc="measuring",
            delay=_SECONDS_WITHOUT_BAR,
            disable=None,  # only a terminal shows it
            dynamic_ncols=True,
            leave=False,
        )
        total = weight = 0.0
        for step in steps:
            batch_total, batch_weight = self._run(*self._batches.batch(step))
            total, weight = total + float(batch_total), weight + float(batch_weight)
        return total / weight if weight else 0.0
