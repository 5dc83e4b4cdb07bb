"""One vector for a row of tokens."""

from __future__ import annotations

from typing import Literal, get_args

import tensorflow as tf

from tfllm.errors import InputError

__all__ = ["Pooling", "check_pooling", "pool"]

Pooling = Literal["mean", "first", "last", "max"]


def check_pooling(pooling: str) -> None:
    """See that there is such a pooling.

    Raises:
        InputError: with the list of those that there are.
    """
    if pooling not in get_args(Pooling):
        raise InputError(
            f"pooling must be one of {', '.join(get_args(Pooling))}. Received: {pooling!r}"
        )


def pool(hidden: tf.Tensor, attention_mask: tf.Tensor | None, pooling: Pooling) -> tf.Tensor:
    """Make one vector of each row's tokens; padding, on whichever side, has no part in it.

    Args:
        hidden: `<float>[batch, tokens, hidden_dim]`.
        attention_mask: `<int>[batch, tokens]`, 1 for real tokens; None where all are.
        pooling: `mean` of the real tokens, the `first` or the `last` of them, or in each dimension
            the `max` over them.

    Returns:
        `<float32>[batch, hidden_dim]`; zeros for a row without a real token.

    Example:
        Mask 1 1 0, states (1, 6) (3, 2) (9, 9): mean (2, 4), first (1, 6), last (3, 2), max (3, 6).
    """
    hidden = tf.cast(hidden, tf.float32)
    if attention_mask is None:
        attention_mask = tf.ones(tf.shape(hidden)[:2], tf.int32)
    return _POOLINGS[pooling](hidden, tf.convert_to_tensor(attention_mask))


def _mean(hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    mask = tf.cast(mask, tf.float32)
    # A product with the mask as a row: sums without a copy of the states.
    total = tf.matmul(mask[:, None, :], hidden)[:, 0]
    return total / tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1.0)


def _first(hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return _at(hidden, mask, tf.argmax(mask, axis=1, output_type=tf.int32))


def _last(hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    places = tf.range(tf.shape(mask)[1])
    return _at(hidden, mask, tf.reduce_max(tf.where(mask > 0, places, 0), axis=1))


def _at(hidden: tf.Tensor, mask: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    real = tf.reduce_any(mask > 0, axis=1, keepdims=True)
    return tf.where(real, tf.gather(hidden, places, batch_dims=1), 0.0)


def _max(hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    largest = tf.reduce_max(tf.where(mask[..., None] > 0, hidden, hidden.dtype.min), axis=1)
    return tf.where(tf.reduce_any(mask > 0, axis=1, keepdims=True), largest, 0.0)


_POOLINGS = {"mean": _mean, "first": _first, "last": _last, "max": _max}
