"""Losses as sums: a training step divides by the weight of the whole global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

__all__ = ["linear_cross_entropy", "linear_cross_entropy_and_hits"]

# Logits alive at once, in elements: 2²⁴ float32 are 64 MiB, and their shares as much.
_CHUNK_ELEMENTS = 1 << 24

# Below it a float32 loses digits before it becomes 0.
_LEAST_SHARE = 1e-30

_Gradient = Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]
_Sums = dict[str, tf.Tensor]


def linear_cross_entropy(
    hidden: tf.Tensor,
    table: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    *,
    bias: tf.Tensor | None = None,
    differentiable: bool = True,
    equal_chunks: bool = False,
) -> tf.Tensor:
    """Sum of weighted cross-entropies of `hidden @ tableᵀ + bias` against `targets`, in nats.

    The logits never exist as a whole: rows go through in chunks, and each chunk's gradient is
    taken while its logits are there, so the backward pass computes none again. Rows of weight 0
    add nothing to the loss nor to any gradient.

    Args:
        hidden: `<float>[rows, hidden_dim]`.
        table: `<float>[vocabulary_size, hidden_dim]`, the output embedding.
        targets: `<int>[rows]`, ids in `[0, vocabulary_size)`.
        weights: `<float>[rows]`.
        bias: `<float>[vocabulary_size]`; None for none.
        differentiable: False where no gradient will be asked for; the work for it is left out.
        equal_chunks: fill the last chunk with rows of weight 0, so that all have one shape, as XLA
            wants it.

    Returns:
        `<float32>[]`: `Σ weights · −log softmax(hidden @ tableᵀ + bias)[targets]`, divided by
        nothing.

    Example:
        >>> loss = linear_cross_entropy(tf.zeros([2, 3]), tf.zeros([4, 3]), [0, 1], [1.0, 1.0])
        >>> round(float(loss), 4)  # 2·ln 4
        2.7726
    """
    loss, _ = _loss_and_hits(
        hidden, _Head(table, bias), targets, weights, differentiable, equal_chunks, count=False
    )
    return loss


def linear_cross_entropy_and_hits(
    hidden: tf.Tensor,
    table: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    *,
    bias: tf.Tensor | None = None,
    differentiable: bool = True,
    equal_chunks: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Give what `linear_cross_entropy` gives, and how much of the weight is where it is right.

    A row is right where no word has a larger logit than the target.

    Returns:
        the loss, and the sum of the right rows' weights, `<float32>[]` each.
    """
    return _loss_and_hits(
        hidden, _Head(table, bias), targets, weights, differentiable, equal_chunks, count=True
    )


class _Head(NamedTuple):
    """What makes logits: `<float>[words, dim]`, and `<float>[words]` or None."""

    table: tf.Tensor
    bias: tf.Tensor | None


def _loss_and_hits(
    hidden: tf.Tensor,
    head: _Head,
    targets: tf.Tensor,
    weights: tf.Tensor,
    differentiable: bool,
    equal_chunks: bool,
    *,
    count: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`<float32>[]` each; the second is 0 unless it is asked for."""
    # Gradients reach the caller's own dtype through these casts.
    hidden, *given = (tf.cast(t, tf.float32) for t in (hidden, *head) if t is not None)
    weights = tf.cast(weights, tf.float32)
    targets = tf.convert_to_tensor(targets)
    chunks = _Chunks.of(hidden, given[0], equal_chunks)
    if equal_chunks:
        hidden, targets, weights = (chunks.fill(t) for t in (hidden, targets, weights))
    if not differentiable:
        sums = _sums_alone(hidden, _head(*given), targets, weights, chunks, count)
        return sums["loss"], sums.get("hits", tf.constant(0.0))

    @tf.custom_gradient
    def summed(
        hidden: tf.Tensor, *given: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], _Gradient]:
        sums, slopes = _sums_and_gradients(hidden, _head(*given), targets, weights, chunks, count)

        def gradient(upstream: tf.Tensor, _: tf.Tensor) -> list[tf.Tensor]:
            return [upstream * slope for slope in slopes]

        return (sums["loss"], sums.get("hits", tf.constant(0.0))), gradient

    return summed(hidden, *given)


def _head(table: tf.Tensor, bias: tf.Tensor | None = None) -> _Head:
    return _Head(table, bias)


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


class _Scores(NamedTuple):
    """Of a chunk's rows: losses `[rows]`, all words' shares `[rows, words]`, 1 or 0 for right."""

    losses: tf.Tensor
    shares: tf.Tensor
    right: tf.Tensor | None


def _scores(states: tf.Tensor, head: _Head, targets: tf.Tensor, count: bool) -> _Scores:
    """Score a chunk; shares are `softmax(logits)`.

    The fused kernel, `SparseSoftmaxCrossEntropyWithLogits`, takes three times as long on a
    processor and refuses to run on a GPU under op determinism.
    """
    logits = tf.matmul(states, head.table, transpose_b=True)
    if head.bias is not None:
        logits += head.bias
    shares = tf.nn.softmax(logits)
    share = tf.gather(shares, targets, batch_dims=1)

    def from_logits() -> tf.Tensor:
        # The largest share is 1 / Σ e^(logit − largest logit) and never underflows.
        log_of_sum = tf.reduce_max(logits, axis=1) - tf.math.log(tf.reduce_max(shares, axis=1))
        return log_of_sum - tf.gather(logits, targets, batch_dims=1)

    losses = tf.cond(tf.reduce_any(share < _LEAST_SHARE), from_logits, lambda: -tf.math.log(share))
    right = None
    if count:
        # An argmax over so many words would take several times as long.
        reached = tf.gather(logits, targets, batch_dims=1) >= tf.reduce_max(logits, axis=1)
        right = tf.cast(reached, tf.float32)
    return _Scores(losses, shares, right)


def _weighted(scores: _Scores, weights: tf.Tensor) -> _Sums:
    """Sum a chunk's losses, and what is right where that is counted."""
    sums = {"loss": tf.reduce_sum(scores.losses * weights)}
    if scores.right is not None:
        sums["hits"] = tf.reduce_sum(scores.right * weights)
    return sums


def _sums_alone(
    hidden: tf.Tensor,
    head: _Head,
    targets: tf.Tensor,
    weights: tf.Tensor,
    chunks: _Chunks,
    count: bool,
) -> _Sums:
    def one_chunk(i: tf.Tensor, sums: _Sums) -> tuple[tf.Tensor, _Sums]:
        scores = _scores(chunks.take(hidden, i), head, chunks.take(targets, i), count)
        return i + 1, _added(sums, _weighted(scores, chunks.take(weights, i)))

    names = ("loss", "hits") if count else ("loss",)
    _, sums = tf.while_loop(
        lambda i, _: i < chunks.number,
        one_chunk,
        (tf.constant(0), {name: tf.constant(0.0) for name in names}),
        parallel_iterations=1,
    )
    return sums


def _added(sums: _Sums, more: _Sums) -> _Sums:
    return {name: total + more[name] for name, total in sums.items()}


def _sums_and_gradients(
    hidden: tf.Tensor,
    head: _Head,
    targets: tf.Tensor,
    weights: tf.Tensor,
    chunks: _Chunks,
    count: bool,
) -> tuple[_Sums, list[tf.Tensor]]:
    """Sums `[]`, and the loss's slopes by `hidden` `[rows, dim]` and by what the head is of."""
    table, bias = head

    def one_chunk(
        states: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, _Sums]:
        scores = _scores(states, head, targets, count)
        shares = scores.shares
        # The slope by the logits is weight · (share − 1 at the target). Its two terms are kept
        # apart, and weights applied to the narrow side: nothing as wide as the logits is written.
        column = weights[:, None]
        by_states = column * (tf.matmul(shares, table) - tf.gather(table, targets))
        sums = _weighted(scores, weights)
        sums["by_table"] = tf.matmul(shares, column * states, transpose_a=True)
        if bias is not None:
            sums["by_bias"] = tf.matmul(shares, column, transpose_a=True)[:, 0]
        return by_states, sums

    def slopes(by_hidden: tf.Tensor, sums: _Sums) -> list[tf.Tensor]:
        places = targets[:, None]
        by_table = tf.tensor_scatter_nd_sub(sums.pop("by_table"), places, weights[:, None] * hidden)
        if bias is None:
            return [by_hidden, by_table]
        return [by_hidden, by_table, tf.tensor_scatter_nd_sub(sums.pop("by_bias"), places, weights)]

    if isinstance(chunks.number, int) and chunks.number <= 1:
        by_hidden, sums = one_chunk(hidden, targets, weights)
        found = slopes(by_hidden, sums)
        return sums, found

    pieces = tf.TensorArray(
        tf.float32,
        size=chunks.number,
        infer_shape=False,
        element_shape=[chunks.size if chunks.equal else None, hidden.shape[-1]],
    )

    def next_chunk(
        i: tf.Tensor, pieces: tf.TensorArray, sums: _Sums
    ) -> tuple[tf.Tensor, tf.TensorArray, _Sums]:
        by_states, more = one_chunk(*(chunks.take(t, i) for t in (hidden, targets, weights)))
        return i + 1, pieces.write(i, by_states), _added(sums, more)

    nothing = {"loss": tf.constant(0.0), "by_table": tf.zeros_like(table)}
    if count:
        nothing["hits"] = tf.constant(0.0)
    if bias is not None:
        nothing["by_bias"] = tf.zeros_like(bias)
    _, pieces, sums = tf.while_loop(
        lambda i, *_: i < chunks.number,
        next_chunk,
        (tf.constant(0), pieces, nothing),
        parallel_iterations=1,
    )
    found = slopes(tf.reshape(pieces.concat(), tf.shape(hidden)), sums)
    return sums, found
