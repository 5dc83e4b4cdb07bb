"""Activation functions, written for few passes over memory."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["gelu", "gelu_tanh"]

# gelu_tanh(x) = x · sigmoid(x · (A + B·x²)), since (1 + tanh u) / 2 = sigmoid(2u).
_A = 1.5957691216057308  # 2·sqrt(2/π)
_B = 0.07135481282670355  # A · 0.044715
_SQRT_HALF = 0.7071067811865476
_DENSITY_AT_0 = 0.3989422804014327  # of the normal distribution, 1/sqrt(2π)


@tf.custom_gradient
def gelu_tanh(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Apply GPT-2's GELU (transformers' `gelu_new`), elementwise.

    The same function as `0.5·x·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³)))`, without a power and
    without a chain of temporaries in the gradient.

    Args:
        x: floating point, any shape.

    Returns:
        A tensor like `x`.

    Reference:
        Hendrycks and Gimpel, 2016, arXiv:1606.08415.
    """
    dtype = x.dtype

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        # Computed again and not kept until here: `x` is four times as wide as the model. Without
        # the dependency TensorFlow would find the same operations above and keep their results.
        with tf.control_dependencies([upstream]):
            wide, squared, gate = _gate(x)
            slope = gate * (1 + wide * (1 - gate) * (_A + 3 * _B * squared))
            return upstream * tf.cast(slope, dtype)

    wide, _, gate = _gate(x)
    return tf.cast(wide * gate, dtype), gradient


def _gate(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`x`, its square and its gate, in float32: a float16 overflows when squared."""
    x = tf.cast(x, tf.float32)
    squared = x * x
    return x, squared, tf.sigmoid(x * (_A + _B * squared))


@tf.custom_gradient
def gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Apply BERT's GELU, `x · Φ(x)` with the normal distribution's Φ, elementwise.

    Args:
        x: floating point, any shape.

    Returns:
        A tensor like `x`.

    Reference:
        Hendrycks and Gimpel, 2016, arXiv:1606.08415.
    """
    dtype = x.dtype

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        # Computed again and not kept until here, as above.
        with tf.control_dependencies([upstream]):
            wide, share = _normal_share(x)
            slope = share + wide * (_DENSITY_AT_0 * tf.exp(-0.5 * wide * wide))
            return upstream * tf.cast(slope, dtype)

    wide, share = _normal_share(x)
    return tf.cast(wide * share, dtype), gradient


def _normal_share(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`x` and Φ(x), in float32."""
    x = tf.cast(x, tf.float32)
    return x, 0.5 + 0.5 * tf.math.erf(x * _SQRT_HALF)
