"""Settings that are a number for all rows or a tensor with one for each."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["asked", "per_row"]


def per_row(setting: float | tf.Tensor, dtype: tf.DType, rows: tf.Tensor) -> tf.Tensor:
    """Turn a number, `[]` or `[batch]` into `[batch]`."""
    return tf.broadcast_to(tf.cast(setting, dtype), [rows])


def asked(setting: object, neutral: float) -> bool:
    """Whether a setting can change anything, as far as that is known before the graph runs."""
    return not isinstance(setting, (int, float)) or setting != neutral
