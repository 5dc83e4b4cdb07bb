"""What a run will take, measured on a few steps before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfllm.training.memory import peak_memory_bytes

__all__ = ["Estimate", "estimate"]


class Estimate(NamedTuple):
    """What a run will take.

    Attributes:
        first_step_seconds: graph building included.
        step_seconds: of the steps after it.
        peak_bytes: most memory of the process, or of its GPUs.
    """

    first_step_seconds: float
    step_seconds: float
    peak_bytes: int

    def text(self, total_steps: int) -> str:
        """Say it to a person."""
        seconds = self.first_step_seconds + self.step_seconds * (total_steps - 1)
        return (
            f"{total_steps:,} steps of {self.step_seconds:.3g} s after a first one of "
            f"{self.first_step_seconds:.1f} s: about {_duration(seconds)} of training. "
            f"Peak memory so far: {self.peak_bytes / 2**20:,.0f} MiB"
        )


def estimate(
    model: keras.Model, batches: Callable[[int, int], tf.data.Dataset], *, steps: int = 3
) -> Estimate:
    """Take some steps and time them; the model is then no longer what it was.

    Args:
        model: compiled.
        batches: (first step, number of steps) → dataset of that many batches.
        steps: timed ones, after the first.
    """
    clock = _Clock()
    model.fit(batches(0, 1 + steps), steps_per_epoch=1 + steps, callbacks=[clock], verbose=0)
    first, *others = clock.seconds
    return Estimate(first, sorted(others)[len(others) // 2], peak_memory_bytes())


class _Clock(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self._supports_tf_logs = True
        self.seconds: list[float] = []
        self._before = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._before = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        float((logs or {})["loss"])  # waits for the step
        now = time.monotonic()
        self.seconds.append(now - self._before)
        self._before = now


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
