"""What TensorBoard shows of training, by optimizer step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

__all__ = ["TensorBoardLog"]


class TensorBoardLog(keras.callbacks.Callback):
    """Writes loss, learning rate and tokens per second every few steps.

    Keras's own callback writes no per-step scalars by default and the learning rate once an
    epoch; the horizontal axis here is always the optimizer step.
    """

    def __init__(self, folder: Path, *, tokens_per_step: int, every: int = 10) -> None:
        """Open event files below `folder`.

        Args:
            folder: a run's `tensorboard`.
            tokens_per_step: positions of one global batch.
            every: optimizer steps between two points.
        """
        super().__init__()
        self._supports_tf_logs = True
        self._writer = tf.summary.create_file_writer(str(folder / "train"))
        self._tokens = tokens_per_step
        self._every = every
        self._last: tuple[int, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leave the pause between epochs out of the speed."""
        self._last = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a point if it is time."""
        step = int(self.model.optimizer.iterations.numpy())
        if step % self._every:
            return
        now = time.monotonic()
        with self._writer.as_default(step=step):
            tf.summary.scalar("loss", (logs or {})["step_loss"])
            tf.summary.scalar("learning_rate", self.model.optimizer.learning_rate)
            if self._last is not None:
                steps, seconds = step - self._last[0], now - self._last[1]
                tf.summary.scalar("tokens_per_second", steps * self._tokens / seconds)
        self._last = (step, now)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the points on disk."""
        self._writer.flush()
