"""Which words may be drawn: top-k, top-p and min-p, each as the lowest logit that it keeps.

Nothing here sorts a whole vocabulary: the few words among which the border lies are found first.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfllm.generation.row_settings import per_row

__all__ = ["lowest_kept"]

# Up to so many words TensorFlow's heap is faster than looking for the border.
_SMALL = 256
# Logits are told apart to 1/64 nat, down to 32 nats below the likeliest word.
_BUCKETS = 2048
_BUCKETS_PER_NAT = 64.0


def lowest_kept(
    logits: tf.Tensor,
    top_k: int | tf.Tensor,
    top_p: float | tf.Tensor,
    min_p: float | tf.Tensor,
) -> tf.Tensor:
    """Find the logit down to which each row's words may be drawn.

    The filters act one after another, as transformers applies them: `top_p` counts shares among
    the words that `top_k` leaves, `min_p` compares with the likeliest word. Words of equal logit
    stay or go together. The likeliest word always stays.

    Args:
        logits: `<float32>[batch, words]`, none of them NaN, one at least finite in each row.
        top_k: `<int>[]` or `[batch]`; 0 keeps all.
        top_p: `<float>[]` or `[batch]`; 1 keeps all.
        min_p: `<float>[]` or `[batch]`; 0 keeps all.

    Returns:
        `<float32>[batch, 1]`.

    Example:
        shares .5 .3 .2 with top_k 2 and top_p .6 → the first alone, which is .625 of what is left.
    """
    rows = tf.shape(logits)[0]
    top = tf.reduce_max(logits, axis=-1)
    lowest = tf.fill([rows], -float("inf"))
    lowest = _where_asked(
        top_k, lambda k: k > 0, lambda: _lowest_by_rank(logits, top, top_k), lowest
    )
    lowest = _where_asked(
        top_p, lambda p: p < 1.0, lambda: _lowest_by_share(logits, top, top_p, lowest), lowest
    )
    lowest = _where_asked(
        min_p,
        lambda p: p > 0.0,
        lambda: tf.maximum(lowest, top + tf.math.log(per_row(min_p, tf.float32, rows))),
        lowest,
    )
    return lowest[:, None]


def _where_asked(
    setting: float | tf.Tensor,
    asks: Callable[[float | tf.Tensor], bool | tf.Tensor],
    found: Callable[[], tf.Tensor],
    otherwise: tf.Tensor,
) -> tf.Tensor:
    """Look only if a row asks for it; a number is decided when the graph is made."""
    if isinstance(setting, (int, float)):
        return found() if asks(setting) else otherwise
    return tf.cond(tf.reduce_any(asks(setting)), found, lambda: otherwise)


def _lowest_by_rank(logits: tf.Tensor, top: tf.Tensor, top_k: int | tf.Tensor) -> tf.Tensor:
    """`<float32>[batch]`: the logit of the `top_k`-th word, -inf where all are kept."""
    rows, words = tf.shape(logits)[0], tf.shape(logits)[1]
    top_k = tf.minimum(per_row(top_k, tf.int32, rows), words)
    most = tf.maximum(tf.reduce_max(top_k), 1)

    def by_heap() -> tf.Tensor:
        values, _ = tf.math.top_k(logits, k=most)
        return tf.gather(values, tf.maximum(top_k - 1, 0), batch_dims=1)

    def by_border() -> tf.Tensor:
        return _border(logits, top, tf.ones_like(logits), tf.cast(top_k, tf.float32))

    lowest = tf.cond(most <= _SMALL, by_heap, by_border)
    return tf.where(top_k > 0, lowest, -float("inf"))


def _lowest_by_share(
    logits: tf.Tensor, top: tf.Tensor, top_p: float | tf.Tensor, lowest: tf.Tensor
) -> tf.Tensor:
    """`<float32>[batch]`: the same for `top_p`, among the words not below `lowest`."""
    top_p = per_row(top_p, tf.float32, tf.shape(logits)[0])
    shares = tf.where(logits >= lowest[:, None], tf.exp(logits - top[:, None]), 0.0)
    needed = tf.maximum(top_p, 0.0) * tf.reduce_sum(shares, axis=-1)
    found = _border(logits, top, shares, tf.where(top_p < 1.0, needed, float("inf")))
    return tf.where(top_p < 1.0, tf.maximum(found, lowest), lowest)


def _border(logits: tf.Tensor, top: tf.Tensor, weights: tf.Tensor, needed: tf.Tensor) -> tf.Tensor:
    """Find the lowest word that has less than `needed` of the weight strictly above it.

    Weights are added up by bucket of logits, which tells the bucket of the border; only its words
    are sorted.

    Args:
        logits: `<float32>[batch, words]`.
        top: `<float32>[batch]`, the highest of them.
        weights: `<float32>[batch, words]`, not negative.
        needed: `<float32>[batch]`; inf where nothing is looked for.

    Returns:
        its logit, `<float32>[batch]`; the highest where `needed` is 0.
    """
    depth = (top[:, None] - logits) * _BUCKETS_PER_NAT
    last_bucket = tf.constant(_BUCKETS - 1, tf.float32)
    # Not a minimum: what is no number has to fall into a bucket too.
    bucket = tf.cast(tf.where(depth < last_bucket, depth, last_bucket), tf.int32)
    sums = tf.math.bincount(
        bucket, weights=weights, axis=-1, minlength=_BUCKETS, maxlength=_BUCKETS
    )
    above = tf.cumsum(sums, axis=-1, exclusive=True)
    border = _last_below(above, needed)
    inside = (bucket == border[:, None]) & (needed < float("inf"))[:, None]
    values, weights = _sorted_words(logits, weights, inside)
    above = tf.gather(above, border, batch_dims=1)[:, None]
    above += tf.cumsum(weights, axis=-1, exclusive=True)
    # Places without a word don't count.
    above = tf.where(values > -float("inf"), above, float("inf"))
    return tf.gather(values, _last_below(above, needed), batch_dims=1)


def _last_below(rising: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
    """Where each row of `[batch, n]` is last below its limit, or 0: `<int32>[batch]`."""
    below = tf.cast(rising < limits[:, None], tf.int32)
    return tf.maximum(tf.reduce_sum(below, axis=-1) - 1, 0)


def _sorted_words(
    logits: tf.Tensor, weights: tf.Tensor, chosen: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pull the chosen words of each row together, highest logit first.

    Returns:
        logits and weights, `<float32>[batch, most chosen + 1]`; -inf and 0 where a row has fewer.
    """
    places = tf.where(chosen)
    rows = tf.shape(logits, out_type=tf.int64)[0]

    def together(table: tf.Tensor, default: float) -> tf.Tensor:
        ragged = tf.RaggedTensor.from_value_rowids(
            tf.gather_nd(table, places), places[:, 0], nrows=rows, validate=False
        )
        return tf.pad(ragged.to_tensor(default), [[0, 0], [0, 1]], constant_values=default)

    values = together(logits, -float("inf"))
    values, order = tf.math.top_k(values, k=tf.shape(values)[1])
    return values, tf.gather(together(weights, 0.0), order, batch_dims=1)
