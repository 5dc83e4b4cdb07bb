"""When a run is saved, what counts as its best, and when patience ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import tf_keras as keras

from tfllm.errors import InputError
from tfllm.training.best_metric import BestMetric
from tfllm.training.checkpoints import Checkpoints

__all__ = ["SaveCheckpoints"]


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves every few steps or minutes and when told to; keeps the best epoch's weights apart.

    What it has seen is part of the checkpoint, so that a resumed run stops where the
    uninterrupted one would.

    Attributes:
        metric: what is compared.
        best: its best value so far; infinitely bad before the first.
        best_metrics: all numbers of that validation.
        epochs_without_better: since then.
        compared_at: the step of the last comparison, so that none is left out or made twice.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        minutes: float = 5.0,
        steps: int | None = None,
        patience: int | None = None,
        metric: BestMetric | None = None,
    ) -> None:
        """Prepare.

        Args:
            checkpoints: where to.
            minutes: between saves within an epoch.
            steps: save after each multiple of so many optimizer steps as well; None for never.
            patience: epochs without a better one after which `out_of_patience` is true; None for
                never.
            metric: what is compared; None for the loss.
        """
        super().__init__()
        # Keras copies every step's results to NumPy for callbacks that do not say this.
        self._supports_tf_logs = True
        self._checkpoints = checkpoints
        self._seconds = 60.0 * minutes
        self._steps = steps
        self._patience = patience
        self._saved_at = time.monotonic()
        self._first_step = 0
        self._is_better = False
        self.metric = metric or BestMetric()
        self.best = self.metric.worst
        self.best_metrics: dict[str, float] = {}
        self.epochs_without_better = 0
        self.compared_at = 0

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.best_metrics = dict(state.get("best", {}))
        self.best = self.best_metrics.get(self.metric.name, self.metric.worst)
        self.epochs_without_better = int(state.get("epochs_without_better", 0))
        self.compared_at = int(state.get("compared_at", 0))

    @property
    def out_of_patience(self) -> bool:
        """Whether training should stop."""
        return self._patience is not None and self.epochs_without_better >= self._patience

    def value_of(self, metrics: Mapping[str, float]) -> float:
        """Take the compared number out of a validation's.

        Raises:
            InputError: if it was not measured.
        """
        if self.metric.name not in metrics:
            raise InputError(
                f"--best_metric {self.metric.name} is not measured here. "
                f"Give one of {', '.join(metrics)}"
            )
        return float(metrics[self.metric.name])

    def compare(self, value: float, metrics: Mapping[str, float]) -> None:
        """Hold an epoch's number against the best.

        If it is better, the next `save` keeps the weights.

        Args:
            value: the compared metric's, the same on all workers.
            metrics: all numbers of the validation.
        """
        self.compared_at = self._checkpoints.step()
        self._is_better = self.metric.is_better(value, self.best)
        if self._is_better:
            self.best, self.best_metrics = value, dict(metrics)
            self.epochs_without_better = 0
        else:
            self.epochs_without_better += 1

    def save(self) -> None:
        """Take a checkpoint now; training may go on while its files are written."""
        self._checkpoints.start_saving(self._state(), best=self._is_better)
        self._is_better = False
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count from the optimizer's step: to read it at each step would make a GPU wait."""
        self._first_step = self._checkpoints.step()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if it is time."""
        step = self._first_step + batch + 1
        due = self._steps is not None and step % self._steps == 0
        if due or time.monotonic() - self._saved_at >= self._seconds:
            self.save()

    def _state(self) -> dict[str, Any]:
        # JSON has no infinity and no NaN.
        best = {name: v for name, v in self.best_metrics.items() if math.isfinite(v)}
        return {
            "epochs_without_better": self.epochs_without_better,
            "compared_at": self.compared_at,
            "best": best,
        }
