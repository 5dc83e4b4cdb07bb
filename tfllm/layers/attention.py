"""What the attention of every backbone has in common."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["HIDDEN_KEY", "mix_values"]

# Subtracted from the scores of keys that a query may not see. Finite, so that a query that sees
# none (padding) gives numbers and not NaN; e^-1e9 is 0 beside any real score.
HIDDEN_KEY = 1e9


def mix_values(
    scores: tf.Tensor, values: tf.Tensor, kept: tf.Tensor | None, rate: float
) -> tf.Tensor:
    """`dropout(softmax(scores)) @ values`, with a gradient that keeps little and passes seldom.

    What is as large as the scores is most of a block's memory. Of it, the shares and the mask are
    kept for the gradient; what dropout left of the shares is computed again.

    Args:
        scores: `<float32>[batch, heads, queries, keys]`.
        values: `<float>[batch, heads, keys, head_dim]`.
        kept: `<bool>` like `scores`, the shares that dropout leaves; None for all.
        rate: share that dropout zeroes.

    Returns:
        `<float>[batch, heads, queries, head_dim]`.

    Reference:
        Dao et al., FlashAttention, 2022, arXiv:2205.14135, appendix B.2 (the sum in the gradient).
    """
    dtype = values.dtype

    def dropped(x: tf.Tensor) -> tf.Tensor:
        if kept is None:
            return x
        return tf.where(kept, x * tf.cast(1.0 / (1.0 - rate), x.dtype), tf.zeros([], x.dtype))

    @tf.custom_gradient
    def mixed(scores: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, Any]:
        shares = tf.nn.softmax(scores)
        result = tf.matmul(dropped(tf.cast(shares, dtype)), values)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # The dependency keeps TensorFlow from keeping the forward pass's result instead.
            with tf.control_dependencies([upstream]):
                again = dropped(tf.cast(shares, dtype))
            by_values = tf.matmul(again, upstream, transpose_a=True)
            by_shares = dropped(tf.matmul(upstream, values, transpose_b=True))
            # Σ over keys of share · slope, had without another pass over them.
            inner = tf.reduce_sum(tf.cast(upstream * result, tf.float32), axis=-1, keepdims=True)
            return shares * (tf.cast(by_shares, tf.float32) - inner), by_values

        return result, gradient

    return mixed(scores, values)
