"""How the next token is chosen from its logits."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["Sampling", "choose_next", "keep_likely"]


# Logits divided by less would overflow; there is no chance left in them anyway.
_COLDEST = 1e-6


class Sampling(NamedTuple):
    """Settings of random choice; each is a number for all rows or a tensor `[batch]`.

    Attributes:
        temperature: the logits are divided by it; 0 takes the likeliest token.
        top_k: only so many of the likeliest tokens may be drawn; 0 for all.
        top_p: only the likeliest tokens whose shares first add up to it may be drawn; 1 for all.
        seed: a row draws the same with the same seed, whatever rows are beside it.

    Reference:
        top-p: Holtzman et al., 2019, arXiv:1904.09751. top-k: Fan et al., 2018, arXiv:1805.04833.
    """

    temperature: float | tf.Tensor = 1.0
    top_k: int | tf.Tensor = 0
    top_p: float | tf.Tensor = 1.0
    seed: int | tf.Tensor = 0


def choose_next(logits: tf.Tensor, sampling: Sampling | None, step: tf.Tensor) -> tf.Tensor:
    """Choose one id for each row.

    Args:
        logits: `<float32>[batch, words]`.
        sampling: None for the likeliest.
        step: `<int32>[]`, how many tokens were chosen before; another draw for each.

    Returns:
        `<int32>[batch]`.
    """
    likeliest = tf.argmax(logits, axis=-1, output_type=tf.int32)
    if sampling is None:
        return likeliest
    rows = tf.shape(logits)[0]
    temperature = tf.broadcast_to(tf.cast(sampling.temperature, tf.float32), [rows])
    greedy = ~(temperature > _COLDEST)  # so is a temperature that is not a number
    scaled = logits / tf.where(greedy, 1.0, temperature)[:, None]
    order, shares = keep_likely(scaled, sampling.top_k, sampling.top_p)
    # Inverse transform: one uniform number a row, held against the running sum of the shares.
    below = tf.cumsum(shares, axis=-1)
    draw = _uniform(tf.broadcast_to(sampling.seed, [rows]), step) * below[:, -1]
    rank = tf.reduce_sum(tf.cast(below <= draw[:, None], tf.int32), axis=-1)
    # Rounding may put the draw on the total itself: then the last kept word is meant.
    kept = tf.reduce_sum(tf.cast(shares > 0.0, tf.int32), axis=-1)
    rank = tf.maximum(tf.minimum(rank, kept - 1), 0)
    return tf.where(greedy, likeliest, tf.gather(order, rank, batch_dims=1))


def keep_likely(
    logits: tf.Tensor, top_k: int | tf.Tensor, top_p: float | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sort the words by logit and give those beyond `top_k` or `top_p` a share of 0.

    The likeliest word is always kept. `top_p` counts shares among all words.

    Args:
        logits: `<float32>[batch, words]`.
        top_k: `<int>[]` or `[batch]`; 0 keeps all.
        top_p: `<float>[]` or `[batch]`; 1 keeps all.

    Returns:
        ids `<int32>[batch, words]`, likeliest first, and their shares `<float32>[batch, words]`,
        which add up to at most 1.

    Example:
        shares .5 .3 .2 with top_p .6 → .5 .3 0; with top_k 1 → .5 0 0.
    """
    rows, words = tf.shape(logits)[0], tf.shape(logits)[1]
    values, order = tf.math.top_k(logits, k=words, sorted=True)
    shares = tf.nn.softmax(values, axis=-1)
    before = tf.cumsum(shares, axis=-1, exclusive=True)
    rank = tf.range(words)[None, :]
    top_k = tf.broadcast_to(tf.cast(top_k, tf.int32), [rows])
    limit = tf.where(top_k > 0, top_k, words)[:, None]
    top_p = tf.broadcast_to(tf.cast(top_p, tf.float32), [rows])[:, None]
    keep = (rank < limit) & ((before < top_p) | (top_p >= 1.0) | (rank == 0))
    return order, tf.where(keep, shares, 0.0)


def _uniform(seeds: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """One number in [0, 1) for each seed and step: `<int>[batch]` → `<float32>[batch]`.

    TensorFlow's stateless generators take one seed for a whole tensor, and a row would then draw
    by its place in the batch. This is SplitMix64 on each row's own counter.

    Reference:
        Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    golden = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = _mix(tf.cast(tf.cast(seeds, tf.int64), tf.uint64) + golden)
    state = _mix(state + golden * tf.cast(tf.cast(step, tf.int64) + 1, tf.uint64))
    # 24 bits are what a float32 holds below 1.
    top = tf.bitwise.right_shift(state, tf.constant(40, tf.uint64))
    return tf.cast(tf.cast(top, tf.int64), tf.float32) * (1.0 / (1 << 24))


def _mix(z: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(shift, tf.uint64)))
        z *= tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(31, tf.uint64)))
