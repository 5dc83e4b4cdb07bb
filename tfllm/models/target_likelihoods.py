"""Log-likelihoods of target words, without all logits at once."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["target_log_likelihoods"]

# Logits alive at once, in elements: 2²⁴ float32 are 64 MiB.
_CHUNK_ELEMENTS = 1 << 24


def target_log_likelihoods(hidden: tf.Tensor, table: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Give `log softmax(hidden @ tableᵀ)` of the targets alone, in chunks of rows.

    Args:
        hidden: `<float32>[rows, hidden_dim]`.
        table: `<float32>[words, hidden_dim]`, the output embedding.
        targets: `<int32>[rows]`.

    Returns:
        `<float32>[rows]`, in nats.
    """
    size = max(128, _CHUNK_ELEMENTS // int(table.shape[0]))
    # At least one chunk, of no rows: an array without elements can't be joined.
    number = tf.maximum((tf.shape(hidden)[0] + size - 1) // size, 1)

    def score(i: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        logits = tf.matmul(hidden[i * size : (i + 1) * size], table, transpose_b=True)
        of_targets = tf.gather(logits, targets[i * size : (i + 1) * size], batch_dims=1)
        return i + 1, found.write(i, of_targets - tf.reduce_logsumexp(logits, axis=-1))

    found = tf.TensorArray(tf.float32, size=number, element_shape=[None], infer_shape=False)
    _, found = tf.while_loop(
        lambda i, _: i < number, score, (tf.constant(0), found), parallel_iterations=1
    )
    return found.concat()
