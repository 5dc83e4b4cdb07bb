"""The small steps of SentencePiece's normalizers, besides tables."""

from __future__ import annotations

import tensorflow as tf

from tfllm.text.sentencepiece_text import TracedText, shift_left, shift_right

__all__ = ["replace_pairs", "replace_runs", "strip"]


def replace_pairs(text: TracedText, code_point: int, content: int) -> TracedText:
    """Replace every two of a code point, from the left, by `content`.

    It is aligned with the second of them.
    """
    same = text.code_points == code_point
    before = shift_right(same, False) & ~text.starts()
    return tf.cond(
        tf.reduce_any(same & before),
        lambda: _replace_pairs(text, same, before, content),
        lambda: text,
    )


def _replace_pairs(
    text: TracedText, same: tf.Tensor, before: tf.Tensor, content: int
) -> TracedText:
    index = tf.range(tf.size(same))
    run_starts = same & ~before
    run = tf.maximum(tf.cumsum(tf.cast(run_starts, tf.int32)) - 1, 0)
    place = index - tf.gather(tf.boolean_mask(index, run_starts), run)
    second = same & (place % 2 == 1)
    first = shift_left(second, False)
    return text._replace(code_points=tf.where(second, content, text.code_points)).where(~first)


def replace_runs(text: TracedText, code_point: int, content: int) -> TracedText:
    """Replace each run of two or more of a code point by one `content`.

    It is aligned with the last of them.
    """
    same = text.code_points == code_point
    repeated = same & shift_right(same, False) & ~text.starts()
    dropped = shift_left(repeated, False)
    return tf.cond(
        tf.reduce_any(repeated),
        lambda: text._replace(code_points=tf.where(repeated, content, text.code_points)).where(
            ~dropped
        ),
        lambda: text,
    )


def strip(text: TracedText, spaces: tf.Tensor, *, left: bool, right: bool) -> TracedText:
    """Drop the spaces at the ends of each segment.

    Args:
        text: the text.
        spaces: `<bool>[n]`, which are spaces.
        left: whether to drop them at the beginning.
        right: whether to drop them at the end.
    """
    count = tf.size(spaces)
    segments = tf.reduce_max(tf.concat([text.segments, [-1]], 0)) + 1
    solid = tf.reshape(tf.where(~spaces), [-1])
    places, owners = tf.cast(solid, tf.int32), tf.gather(text.segments, solid)
    index = tf.range(count)
    kept = tf.fill([count], True)
    if left:
        first = tf.math.unsorted_segment_min(places, owners, segments)
        kept &= index >= tf.gather(first, text.segments)
    if right:
        last = tf.math.unsorted_segment_max(places, owners, segments)
        kept &= index <= tf.gather(last, text.segments)
    return text.where(kept)
