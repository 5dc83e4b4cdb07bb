"""Learning rates that rise, then stay or fall."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["Shape", "WarmUpSchedule", "learning_rate_schedule", "warmup_cosine"]

Shape = Literal["constant", "linear", "cosine", "inverse_square_root"]


@keras.saving.register_keras_serializable(package="tfllm")
class WarmUpSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise from 0 to the peak, then one of four ways on.

    With w = `warmup_steps`, T = `total_steps`, f = `final_fraction` and the share p of the way
    from w to T, the rate at step t ≥ w is the peak times

    | shape               | factor                                   |
    |---------------------|------------------------------------------|
    | constant            | 1                                        |
    | linear              | (1 − p) + f·p                            |
    | cosine              | (1 − q) + f·q with q = (1 − cos(πp)) / 2 |
    | inverse_square_root | max(√(w / t), f) with w at least 1       |

    and it stays at T's after T. It is computed in float64 and rounded once to `<float32>[]`: steps
    0, w and T give exactly 0, the peak and the end, and steps beyond 2²⁴, which float32 can't
    count, are no special case.

    References:
        Loshchilov and Hutter, 2016, arXiv:1608.03983 (cosine).
        Vaswani et al., 2017, arXiv:1706.03762 (warm-up, inverse square root).
    """

    def __init__(
        self,
        shape: Shape,
        peak: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
    ) -> None:
        """Take the numbers as they are; `learning_rate_schedule` checks a user's."""
        super().__init__()
        self.shape = shape
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.final_fraction = final_fraction

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the rate for the update that follows `step` others."""
        step = tf.cast(tf.minimum(tf.cast(step, tf.int64), self.total_steps), tf.float64)
        rise = step / max(self.warmup_steps, 1)
        factor = tf.where(step < self.warmup_steps, rise, self._after_warm_up(step))
        return tf.cast(self.peak * factor, tf.float32)

    def _after_warm_up(self, step: tf.Tensor) -> tf.Tensor:
        if self.shape == "constant":
            return tf.ones_like(step)
        if self.shape == "inverse_square_root":
            start = float(max(self.warmup_steps, 1))
            return tf.maximum(tf.sqrt(start / tf.maximum(step, start)), self.final_fraction)
        fallen = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        if self.shape == "cosine":
            fallen = (1.0 - tf.cos(math.pi * fallen)) / 2.0
        # Not 1 − (1 − f)·fallen, which at the end misses a small f.
        return (1.0 - fallen) + self.final_fraction * fallen

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same schedule of."""
        return {
            "shape": self.shape,
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "final_fraction": self.final_fraction,
        }


def learning_rate_schedule(
    name: Shape,
    peak: float,
    *,
    total_steps: int,
    warmup_steps: int | None = None,
    warmup_fraction: float | None = None,
    final_fraction: float = 0.0,
) -> WarmUpSchedule:
    """Create a schedule over optimizer steps that starts with a warm-up.

    Args:
        name: `constant`, `linear`, `cosine` or `inverse_square_root`: see `WarmUpSchedule`.
        peak: learning rate at the end of the warm-up.
        total_steps: optimizer steps of warm-up and all that follows.
        warmup_steps: optimizer steps of the warm-up.
        warmup_fraction: instead of `warmup_steps`, their share of all, rounded to whole steps.
            Without either, the warm-up is a tenth of all, at most 100 steps.
        final_fraction: share of `peak` where `linear` and `cosine` end, and below which
            `inverse_square_root` does not fall; `constant` makes nothing of it.

    Raises:
        InputError: if nothing is left after the warm-up, or a number makes no sense.

    Example:
        >>> schedule = learning_rate_schedule("linear", 1.0, total_steps=10, warmup_steps=2)
        >>> [float(schedule(step)) for step in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    known = get_args(Shape)
    if name not in known:
        raise InputError(
            f"there is no learning-rate schedule {name!r}. Give one of {', '.join(known)}"
        )
    if not (peak > 0 and math.isfinite(peak)):
        raise InputError(f"the learning rate must be above 0. Received: --learning_rate {peak}")
    if not 0 <= final_fraction <= 1:
        raise InputError(
            "the final learning rate must be 0 to 1 times the highest. "
            f"Received: final_fraction={final_fraction}"
        )
    steps = _warmup_steps(total_steps, warmup_steps, warmup_fraction)
    if steps >= total_steps:
        raise InputError(
            f"the warm-up of {steps} steps is not shorter than training, which has "
            f"{total_steps}. Give fewer --warmup_steps or more --epochs"
        )
    return WarmUpSchedule(
        name, peak, total_steps=total_steps, warmup_steps=steps, final_fraction=final_fraction
    )


def _warmup_steps(total_steps: int, steps: int | None, fraction: float | None) -> int:
    if steps is not None and fraction is not None:
        raise InputError(
            f"the warm-up is given twice: --warmup_steps {steps} and --warmup_fraction "
            f"{fraction}. Give one of them"
        )
    if steps is not None:
        if steps < 0:
            raise InputError(f"--warmup_steps must be at least 0. Received: {steps}")
        return steps
    if fraction is None:
        return min(100, total_steps // 10)
    if not 0 <= fraction < 1:
        raise InputError(f"--warmup_fraction must be at least 0 and below 1. Received: {fraction}")
    # Rounded: 0.07 of 100 is a bit more than 7 in floating point, and must not become 8.
    return round(fraction * total_steps)


def warmup_cosine(
    peak: float, *, total_steps: int, warmup_steps: int | None = None, final_fraction: float = 0.1
) -> WarmUpSchedule:
    """Create the `cosine` of `learning_rate_schedule`, ending at a tenth of the peak.

    Raises:
        InputError: if nothing is left after the warm-up.
    """
    return learning_rate_schedule(
        "cosine",
        peak,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        final_fraction=final_fraction,
    )
