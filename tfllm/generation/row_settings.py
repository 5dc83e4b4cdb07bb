"""Settings that are a number for all rows or a tensor with one for each."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["if_asked", "per_row"]


def per_row(setting: float | tf.Tensor, dtype: tf.DType, rows: tf.Tensor) -> tf.Tensor:
    """Turn a number, `[]` or `[batch]` into `[batch]`."""
    return tf.broadcast_to(tf.cast(setting, dtype), [rows])


def if_asked(
    setting: float | tf.Tensor, neutral: float, dtype: tf.DType, rows: tf.Tensor
) -> float | tf.Tensor:
    """Turn a setting into `[batch]`, or into a plain `neutral` where it can't change anything.

    Whether it can is looked at only as far as it is known before a graph runs.
    """
    if isinstance(setting, (int, float)) and setting == neutral:
        return neutral
    return per_row(setting, dtype, rows)
