"""How the next token is chosen from its logits."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfllm.generation.filters import lowest_kept
from tfllm.generation.row_settings import if_asked, per_row

__all__ = ["Sampling", "choose_next", "ready_sampling", "shares_of"]


# Logits divided by less would overflow; there is no chance left in them anyway.
_COLDEST = 1e-6
# A draw adds up blocks of so many words first, and then the words of one block.
_BLOCK = 256


class Sampling(NamedTuple):
    """Settings of random choice; each is a number for all rows or a tensor `[batch]`.

    The filters act in the order temperature, top-k, top-p, min-p, each on what the one before it
    left, as in transformers. Words of equal logit stay or go together.

    Attributes:
        temperature: the logits are divided by it; 0 takes the likeliest token.
        top_k: only so many of the likeliest tokens may be drawn; 0 for all.
        top_p: only the likeliest tokens whose shares first add up to it may be drawn; 1 for all.
        seed: a row draws the same with the same seed, whatever rows are beside it.
        min_p: only tokens at least so many times as likely as the likeliest may be drawn; 0 for
            all.

    Reference:
        top-k: Fan et al., 2018, arXiv:1805.04833. top-p: Holtzman et al., 2019, arXiv:1904.09751.
        min-p: Nguyen et al., 2024, arXiv:2407.01082.
    """

    temperature: float | tf.Tensor = 1.0
    top_k: int | tf.Tensor = 0
    top_p: float | tf.Tensor = 1.0
    seed: int | tf.Tensor = 0
    min_p: float | tf.Tensor = 0.0


def ready_sampling(sampling: Sampling | None, rows: tf.Tensor) -> Sampling | None:
    """Make tensors `[batch]` of what was asked for; the rest stays a number."""
    if sampling is None:
        return None
    return Sampling(
        temperature=per_row(sampling.temperature, tf.float32, rows),
        seed=per_row(sampling.seed, tf.int64, rows),
        top_k=if_asked(sampling.top_k, 0, tf.int32, rows),
        top_p=if_asked(sampling.top_p, 1, tf.float32, rows),
        min_p=if_asked(sampling.min_p, 0, tf.float32, rows),
    )


def choose_next(logits: tf.Tensor, sampling: Sampling | None, step: tf.Tensor) -> tf.Tensor:
    """Choose one id for each row.

    Args:
        logits: `<float32>[batch, words]`, one at least finite in each row.
        sampling: None for the likeliest.
        step: `<int32>[]`, how many tokens were chosen before; another draw for each.

    Returns:
        `<int32>[batch]`.
    """
    likeliest = tf.argmax(logits, axis=-1, output_type=tf.int32)
    if sampling is None:
        return likeliest
    rows = tf.shape(logits)[0]
    draws = _uniform(per_row(sampling.seed, tf.int64, rows), step)
    drawn = _draw(shares_of(logits, sampling), draws)
    return tf.where(_greedy(sampling, rows), likeliest, drawn)


def shares_of(logits: tf.Tensor, sampling: Sampling) -> tf.Tensor:
    """Turn logits into what each word's chance is proportional to.

    Args:
        logits: `<float32>[batch, words]`.
        sampling: temperature and filters.

    Returns:
        `<float32>[batch, words]`: 1 for the likeliest word, 0 for those that may not be drawn.
    """
    rows = tf.shape(logits)[0]
    # An infinite temperature would make a number of -inf, which is forbidden.
    temperature = tf.minimum(per_row(sampling.temperature, tf.float32, rows), tf.float32.max)
    logits /= tf.where(_greedy(sampling, rows), 1.0, temperature)[:, None]
    top = tf.reduce_max(logits, axis=-1, keepdims=True)
    lowest = lowest_kept(logits, sampling.top_k, sampling.top_p, sampling.min_p)
    # Whatever a request asks for, and be it no number, the likeliest word stays.
    dropped = logits < tf.minimum(lowest, top)
    return tf.where(dropped, 0.0, tf.exp(logits - top))


def _greedy(sampling: Sampling, rows: tf.Tensor) -> tf.Tensor:
    """`<bool>[batch]`; so is a temperature that is not a number."""
    temperature = per_row(sampling.temperature, tf.float32, rows)
    # Not `~(… > …)`: in a graph TensorFlow makes `… <= …` of it, which no NaN passes.
    return tf.where(temperature > _COLDEST, False, True)


def _draw(shares: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Inverse transform: hold `<float32>[batch]` in [0, 1) against the running sum of the shares.

    The sum runs in the order of the vocabulary, so that a draw does not depend on how the filters
    came to what they keep.
    """
    rows, words = tf.shape(shares)[0], tf.shape(shares)[1]
    count = (words + _BLOCK - 1) // _BLOCK
    blocks = tf.pad(shares, [[0, 0], [0, count * _BLOCK - words]])
    blocks = tf.reshape(blocks, [rows, count, _BLOCK])
    sums = tf.cumsum(tf.reduce_sum(blocks, axis=-1), axis=-1)
    drawn = draws * sums[:, -1]
    block = _first_above(sums, drawn)
    before = tf.gather(tf.pad(sums, [[0, 0], [1, 0]]), block, batch_dims=1)
    inside = before[:, None] + tf.cumsum(tf.gather(blocks, block, batch_dims=1), axis=-1)
    return block * _BLOCK + _first_above(inside, drawn)


def _first_above(rising: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Where each row of `[batch, n]` is first above the draw, and rising: `<int32>[batch]`."""
    # Rounding may put the draw on the total itself or above it: then the last rise is meant.
    drawn = tf.minimum(drawn, tf.math.nextafter(rising[:, -1], tf.zeros_like(drawn)))
    return tf.reduce_sum(tf.cast(rising <= drawn[:, None], tf.int32), axis=-1)


def _uniform(seeds: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """One number in [0, 1) for each seed and step: `<int64>[batch]` → `<float32>[batch]`.

    TensorFlow's stateless generators take one seed for a whole tensor, and a row would then draw
    by its place in the batch. This is SplitMix64 on each row's own counter.

    Reference:
        Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    golden = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = _mix(tf.cast(seeds, tf.uint64) + golden)
    state = _mix(state + golden * tf.cast(tf.cast(step, tf.int64) + 1, tf.uint64))
    # 24 bits are what a float32 holds below 1.
    top = tf.bitwise.right_shift(state, tf.constant(40, tf.uint64))
    return tf.cast(tf.cast(top, tf.int64), tf.float32) * (1.0 / (1 << 24))


def _mix(z: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(shift, tf.uint64)))
        z *= tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(31, tf.uint64)))
