"""What TensorBoard shows of training, by optimizer step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfllm.training.memory import memory_bytes

__all__ = ["TensorBoardLog"]

# What a step tells under another name than its curve's, and what has no curve. All else that it
# tells, such as each objective's loss and accuracy, is drawn as it is called.
_CURVES = {"step_loss": "loss", "skipped": "skipped_steps"}
_NOT_DRAWN = {"loss", "skipped_in_a_row"}


class TensorBoardLog(keras.callbacks.Callback):
    """Writes a run's curves every few steps.

    They are loss, each objective's own loss and accuracy, each task's loss where several take
    turns, learning rate, gradient norm, tokens per second, seconds of a step, share of padding,
    skipped steps, memory in MiB, and model FLOPs utilisation where it is known. Keras's own
    callback writes no per-step scalars by default and the learning rate once an epoch; the
    horizontal axis here is always the optimizer step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tokens_per_step: int,
        every: int = 10,
        utilisation_per_token: float | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        task_of: Callable[[int], str] | None = None,
    ) -> None:
        """Open event files below `folder`.

        Args:
            folder: a run's `tensorboard`.
            tokens_per_step: positions of one global batch.
            every: optimizer steps between two points.
            utilisation_per_token: seconds that one position would take at the device's peak.
            hyperparameters: name → value, for TensorBoard's table of runs.
            task_of: step → its task, where several take turns: each has a curve of its loss.
        """
        super().__init__()
        self._supports_tf_logs = True
        self._writer = tf.summary.create_file_writer(str(folder / "train"))
        self._tokens = tokens_per_step
        self._every = every
        self._utilisation_per_token = utilisation_per_token
        self._task_of = task_of
        self._points_of_tasks: dict[str, int] = {}
        self._last: tuple[int, float] | None = None
        if hyperparameters:
            self._write_hyperparameters(hyperparameters)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leave the pause between epochs out of the speed."""
        self._last = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a point if it is time."""
        step = int(self.model.optimizer.iterations.numpy())
        self._write_loss_of_task(step, logs or {})
        if step % self._every:
            return
        # Reading a result waits for the step, so that the clock below is right on a GPU too.
        told = {name: value for name, value in (logs or {}).items() if name not in _NOT_DRAWN}
        points = {_CURVES.get(name, name): float(value) for name, value in told.items()}
        points["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        points["memory_mib"] = memory_bytes() / 2**20
        now = time.monotonic()
        if self._last is not None:
            seconds = (now - self._last[1]) / (step - self._last[0])
            points["step_seconds"] = seconds
            points["tokens_per_second"] = self._tokens / seconds
            if self._utilisation_per_token is not None:
                utilisation = self._tokens * self._utilisation_per_token / seconds
                points["model_flops_utilisation"] = utilisation
        with self._writer.as_default(step=step):
            for name, value in points.items():
                tf.summary.scalar(name, value)
        self._last = (step, now)

    def _write_loss_of_task(self, step: int, logs: Mapping[str, Any]) -> None:
        """Write it if the task's last point is far enough back: each tenth may be another's."""
        task = "" if self._task_of is None else self._task_of(step - 1)
        newest = self._points_of_tasks.get(task, -self._every)
        if task and "step_loss" in logs and step - newest >= self._every:
            self._points_of_tasks[task] = step
            with self._writer.as_default(step=step):
                tf.summary.scalar(f"loss/{task}", float(logs["step_loss"]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the points on disk."""
        self._writer.flush()

    def _write_hyperparameters(self, values: Mapping[str, Any]) -> None:
        from tensorboard.plugins.hparams import api

        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in values.items()
            if value is not None and value != ()
        }
        with self._writer.as_default(step=0):
            api.hparams(plain)
