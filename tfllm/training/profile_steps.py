"""TensorFlow's profiler over some steps of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

__all__ = ["ProfileSteps"]


class ProfileSteps(keras.callbacks.Callback):
    """Records a trace of some optimizer steps for TensorBoard's profile page.

    Args:
        steps: the first and the last, counted from 1.
        folder: a run's `tensorboard`; traces go to `plugins/profile` below it.
    """

    def __init__(self, steps: tuple[int, int], folder: Path) -> None:
        """Wait for the first step."""
        super().__init__()
        self._supports_tf_logs = True
        self._first, self._last = steps
        self._folder = str(folder)
        self._step = 0
        self._records = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count from the optimizer's step."""
        self._step = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Start before the first step."""
        if self._first <= self._step + 1 <= self._last and not self._records:
            tf.profiler.experimental.start(self._folder)
            self._records = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop after the last step."""
        self._step += 1
        if self._step >= self._last:
            self._stop()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stop where a run or an epoch ends first."""
        self._stop()

    def _stop(self) -> None:
        if self._records:
            tf.profiler.experimental.stop()
            self._records = False
