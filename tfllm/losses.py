"""Losses as sums: a training step divides by the weight of the whole global batch."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["linear_cross_entropy"]

# Logits alive at once, in elements: 2²⁴ float32 are 64 MiB, and their shares as much.
_CHUNK_ELEMENTS = 1 << 24

# Below it a float32 loses digits before it becomes 0.
_LEAST_SHARE = 1e-30

_Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def linear_cross_entropy(
    hidden: tf.Tensor,
    table: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    *,
    differentiable: bool = True,
) -> tf.Tensor:
    """Sum of weighted cross-entropies of `hidden @ tableᵀ` against `targets`, in nats.

    The logits never exist as a whole: rows go through in chunks, and each chunk's gradient is
    taken while its logits are there, so the backward pass computes none again. Rows of weight 0
    add nothing to the loss nor to any gradient.

    Args:
        hidden: `<float>[rows, hidden_dim]`.
        table: `<float>[vocabulary_size, hidden_dim]`, the output embedding.
        targets: `<int>[rows]`, ids in `[0, vocabulary_size)`.
        weights: `<float>[rows]`.
        differentiable: False where no gradient will be asked for; the work for it is left out.

    Returns:
        `<float32>[]`: `Σ weights · −log softmax(hidden @ tableᵀ)[targets]`, divided by nothing.

    Example:
        >>> loss = linear_cross_entropy(tf.zeros([2, 3]), tf.zeros([4, 3]), [0, 1], [1.0, 1.0])
        >>> round(float(loss), 4)  # 2·ln 4
        2.7726
    """
    # Gradients reach the caller's own dtype through these casts.
    hidden, table = tf.cast(hidden, tf.float32), tf.cast(table, tf.float32)
    weights = tf.cast(weights, tf.float32)
    targets = tf.convert_to_tensor(targets)
    if not differentiable:
        return _loss_only(hidden, table, targets, weights)

    @tf.custom_gradient
    def summed(hidden: tf.Tensor, table: tf.Tensor) -> tuple[tf.Tensor, _Gradient]:
        loss, by_hidden, by_table = _loss_and_gradients(hidden, table, targets, weights)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return upstream * by_hidden, upstream * by_table

        return loss, gradient

    return summed(hidden, table)


def _rows_per_chunk(table: tf.Tensor) -> int:
    return max(128, _CHUNK_ELEMENTS // int(table.shape[0]))


def _chunk_count(hidden: tf.Tensor, rows_per_chunk: int) -> tf.Tensor | int:
    rows = hidden.shape[0] if hidden.shape[0] is not None else tf.shape(hidden)[0]
    return (rows + rows_per_chunk - 1) // rows_per_chunk


def _chunk_losses(
    states: tf.Tensor, table: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Per row its loss `[rows]` and the shares `[rows, words]` of all words, `softmax(logits)`.

    The fused kernel, `SparseSoftmaxCrossEntropyWithLogits`, takes three times as long on a
    processor and refuses to run on a GPU under op determinism.
    """
    logits = tf.matmul(states, table, transpose_b=True)
    shares = tf.nn.softmax(logits)
    share = tf.gather(shares, targets, batch_dims=1)

    def from_logits() -> tf.Tensor:
        # The largest share is 1 / Σ e^(logit − largest logit) and never underflows.
        log_of_sum = tf.reduce_max(logits, axis=1) - tf.math.log(tf.reduce_max(shares, axis=1))
        return log_of_sum - tf.gather(logits, targets, batch_dims=1)

    losses = tf.cond(tf.reduce_any(share < _LEAST_SHARE), from_logits, lambda: -tf.math.log(share))
    return losses, shares


def _loss_only(
    hidden: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor:
    rows_per_chunk = _rows_per_chunk(table)
    chunks = _chunk_count(hidden, rows_per_chunk)

    def one_chunk(i: tf.Tensor, loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        span = slice(i * rows_per_chunk, (i + 1) * rows_per_chunk)
        losses, _ = _chunk_losses(hidden[span], table, targets[span])
        return i + 1, loss + tf.reduce_sum(losses * weights[span])

    _, loss = tf.while_loop(
        lambda i, _: i < chunks,
        one_chunk,
        (tf.constant(0), tf.constant(0.0)),
        parallel_iterations=1,
    )
    return loss


def _loss_and_gradients(
    hidden: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Loss `[]`, its gradient by `hidden` `[rows, dim]` and by `table` `[words, dim]`."""

    def one_chunk(
        states: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        losses, shares = _chunk_losses(states, table, targets)
        # The slope by the logits is weight · (share − 1 at the target). Its two terms are kept
        # apart, and weights applied to the narrow side: nothing as wide as the logits is written.
        weights = weights[:, None]
        by_states = weights * (tf.matmul(shares, table) - tf.gather(table, targets))
        by_table = tf.matmul(shares, weights * states, transpose_a=True)
        return tf.reduce_sum(losses * weights[:, 0]), by_states, by_table

    def without_targets(by_table: tf.Tensor) -> tf.Tensor:
        return tf.tensor_scatter_nd_sub(by_table, targets[:, None], weights[:, None] * hidden)

    rows_per_chunk = _rows_per_chunk(table)
    chunks = _chunk_count(hidden, rows_per_chunk)
    if isinstance(chunks, int) and chunks <= 1:
        loss, by_hidden, by_table = one_chunk(hidden, targets, weights)
        return loss, by_hidden, without_targets(by_table)

    pieces = tf.TensorArray(
        tf.float32, size=chunks, infer_shape=False, element_shape=[None, hidden.shape[-1]]
    )

    def next_chunk(
        i: tf.Tensor, total: tf.Tensor, pieces: tf.TensorArray, by_table: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor]:
        span = slice(i * rows_per_chunk, (i + 1) * rows_per_chunk)
        loss, by_states, more = one_chunk(hidden[span], targets[span], weights[span])
        return i + 1, total + loss, pieces.write(i, by_states), by_table + more

    _, loss, pieces, by_table = tf.while_loop(
        lambda i, *_: i < chunks,
        next_chunk,
        (tf.constant(0), tf.constant(0.0), pieces, tf.zeros_like(table)),
        parallel_iterations=1,
    )
    by_hidden = tf.reshape(pieces.concat(), tf.shape(hidden))
    return loss, by_hidden, without_targets(by_table)
