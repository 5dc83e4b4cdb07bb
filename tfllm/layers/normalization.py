"""Layer normalization that keeps little for its gradient."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["layer_norm"]

_Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def layer_norm(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalize the last axis to mean 0 and variance 1, then scale and shift it.

    The same function as Keras's `LayerNormalization`, which keeps four tensors as large as `x`
    for its gradient where this keeps none but `x`.

    Args:
        x: `<float>[…, width]`.
        scale: `<float32>[width]`.
        shift: `<float32>[width]`.
        epsilon: added to the variance.

    Returns:
        A tensor like `x`, computed in float32.

    Reference:
        Ba, Kiros and Hinton, 2016, arXiv:1607.06450.
    """
    dtype = x.dtype

    @tf.custom_gradient
    def normalized(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tuple[tf.Tensor, _Gradient]:
        wide = tf.cast(x, tf.float32)
        mean = tf.reduce_mean(wide, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(variance + epsilon)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            # The dependency keeps TensorFlow from keeping the forward pass's result instead.
            with tf.control_dependencies([upstream]):
                unit = (tf.cast(x, tf.float32) - mean) * inverse
            upstream = tf.cast(upstream, tf.float32)
            axes = list(range(upstream.shape.rank - 1))
            by_unit = upstream * scale
            along = tf.reduce_mean(by_unit * unit, axis=-1, keepdims=True)
            by_x = inverse * (
                by_unit - tf.reduce_mean(by_unit, axis=-1, keepdims=True) - unit * along
            )
            by_scale = tf.reduce_sum(upstream * unit, axis=axes)
            return tf.cast(by_x, dtype), by_scale, tf.reduce_sum(upstream, axis=axes)

        return tf.cast((wide - mean) * (inverse * scale) + shift, dtype), gradient

    return normalized(x, tf.cast(scale, tf.float32), tf.cast(shift, tf.float32))
