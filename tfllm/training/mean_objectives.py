"""The losses and accuracies of one pass over some batches, without the other workers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tqdm import tqdm

from tfllm.training.step import SummedLossModel

__all__ = ["MeanObjectives"]

_SECONDS_WITHOUT_BAR = 2.0


class MeanObjectives:
    """What `model.evaluate` gives of a model with objectives, measured by one process alone.

    It is to such a model what `MeanLoss` is to one with a single loss.
    """

    def __init__(self, model: SummedLossModel, batches: Any) -> None:
        """Take a model and what it is measured on.

        Args:
            model: with `objectives`, compiled or not.
            batches: `tfllm.data.StepBatches` whose pass visits every target once.
        """

        def run(features: Any, targets: Any, weights: Any) -> dict[str, list[tf.Tensor]]:
            sums = model.objective_sums(features, targets, weights, training=False)
            return {
                name: [*pair, tf.reduce_sum(tf.cast(weights[name], tf.float32))]
                for name, pair in sums.items()
            }

        self._shares = dict(model.objectives)
        self._batches = batches
        self._run = tf.function(run, input_signature=batches.signature(), autograph=False)

    def measure(self) -> dict[str, float]:
        """Give `loss` and each objective's `<name>_loss` (nats) and `<name>_accuracy`.

        An objective without any weight has 0. A terminal shows a bar.
        """
        steps = tqdm(
            range(self._batches.steps_per_epoch),
            desc="measuring",
            delay=_SECONDS_WITHOUT_BAR,
            disable=None,  # only a terminal shows it
            dynamic_ncols=True,
            leave=False,
        )
        totals = {name: [0.0, 0.0, 0.0] for name in self._shares}
        for step in steps:
            for name, sums in self._run(*self._batches.batch(step)).items():
                totals[name] = [a + float(b) for a, b in zip(totals[name], sums, strict=True)]
        measured = {"loss": 0.0}
        for name, (loss, hits, weight) in totals.items():
            measured[f"{name}_loss"] = loss / weight if weight else 0.0
            measured[f"{name}_accuracy"] = hits / weight if weight else 0.0
            measured["loss"] += self._shares[name] * measured[f"{name}_loss"]
        return measured
