"""Losses as sums: a training step divides by the weight of the whole global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
    equal_chunks: bool = False,
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
        equal_chunks: fill the last chunk with rows of weight 0, so that all have one shape, as XLA
            wants it.

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
    chunks = _Chunks.of(hidden, table, equal_chunks)
    if equal_chunks:
        hidden, targets, weights = (chunks.fill(t) for t in (hidden, targets, weights))
    if not differentiable:
        return _loss_only(hidden, table, targets, weights, chunks)

    @tf.custom_gradient
    def summed(hidden: tf.Tensor, table: tf.Tensor) -> tuple[tf.Tensor, _Gradient]:
        loss, by_hidden, by_table = _loss_and_gradients(hidden, table, targets, weights, chunks)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return upstream * by_hidden, upstream * by_table

        return loss, gradient

    return summed(hidden, table)


class _Chunks(NamedTuple):
    """How rows go through.

    Attributes:
        size: rows of a chunk.
        number: of chunks, `<int32>[]` where the number of rows is unknown.
        equal: whether the last one is as large as the others.
    """

    size: int
    number: tf.Tensor | int
    equal: bool

    @classmethod
    def of(cls, rows: tf.Tensor, table: tf.Tensor, equal: bool) -> _Chunks:
        """Take as many rows at once as logits may be alive."""
        size = max(128, _CHUNK_ELEMENTS // int(table.shape[0]))
        known = rows.shape[0]
        if known is None:
            return cls(size, (tf.shape(rows)[0] + size - 1) // size, equal)
        number = -(-known // size)
        if equal and number:
            size = -(-known // number)  # hardly any row is added then
        return cls(size, number, equal)

    def fill(self, rows: tf.Tensor) -> tf.Tensor:
        """Add rows of zeros until the last chunk is full."""
        there = rows.shape[0] if rows.shape[0] is not None else tf.shape(rows)[0]
        missing = self.number * self.size - there
        filled = tf.pad(rows, [[0, missing], *[[0, 0]] * (rows.shape.rank - 1)])
        return tf.ensure_shape(filled, [None, *rows.shape[1:]])

    def take(self, rows: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
        """Give chunk i."""
        if self.equal:  # XLA wants to know the size
            begin = [i * self.size] + [0] * (rows.shape.rank - 1)
            return tf.slice(rows, begin, [self.size, *rows.shape[1:]])
        return rows[i * self.size : (i + 1) * self.size]


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
    hidden: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, chunks: _Chunks
) -> tf.Tensor:
    def one_chunk(i: tf.Tensor, loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        losses, _ = _chunk_losses(chunks.take(hidden, i), table, chunks.take(targets, i))
        return i + 1, loss + tf.reduce_sum(losses * chunks.take(weights, i))

    _, loss = tf.while_loop(
        lambda i, _: i < chunks.number,
        one_chunk,
        (tf.constant(0), tf.constant(0.0)),
        parallel_iterations=1,
    )
    return loss


def _loss_and_gradients(
    hidden: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, chunks: _Chunks
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

    if isinstance(chunks.number, int) and chunks.number <= 1:
        loss, by_hidden, by_table = one_chunk(hidden, targets, weights)
        return loss, by_hidden, without_targets(by_table)

    pieces = tf.TensorArray(
        tf.float32,
        size=chunks.number,
        infer_shape=False,
        element_shape=[chunks.size if chunks.equal else None, hidden.shape[-1]],
    )

    def next_chunk(
        i: tf.Tensor, total: tf.Tensor, pieces: tf.TensorArray, by_table: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor]:
        loss, by_states, more = one_chunk(*(chunks.take(t, i) for t in (hidden, targets, weights)))
        return i + 1, total + loss, pieces.write(i, by_states), by_table + more

    _, loss, pieces, by_table = tf.while_loop(
        lambda i, *_: i < chunks.number,
        next_chunk,
        (tf.constant(0), tf.constant(0.0), pieces, tf.zeros_like(table)),
        parallel_iterations=1,
    )
    by_hidden = tf.reshape(pieces.concat(), tf.shape(hidden))
    return loss, by_hidden, without_targets(by_table)
