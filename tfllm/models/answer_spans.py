"""The best legal span of a row, from the logits of where it starts and where it ends."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["Spans", "best_spans"]

_IMPOSSIBLE = -1e30


class Spans(NamedTuple):
    """One span a row: `<int32>[batch]` and `<float32>[batch]`."""

    start: tf.Tensor
    """Its first token."""
    end: tf.Tensor
    """Its last token."""
    score: tf.Tensor
    """Logit of its start plus logit of its end."""


def best_spans(logits: tf.Tensor, is_context: tf.Tensor, max_tokens: int) -> Spans:
    """Look at every span, and take the best; of equals the first, then the shortest.

    Args:
        logits: `<float32>[batch, tokens, 2]`, of start and end.
        is_context: `<bool>[batch, tokens]`, where a span may start and end.
        max_tokens: of a span.

    Returns:
        A span for each row. Where nothing is context it is the first token, 0 to 0.

    Example:
        Starts 0 5 4, ends 0 1 9, all context, at most 2 tokens → from 1 to 2, score 14.
    """
    starts, ends = (tf.where(is_context, part, _IMPOSSIBLE) for part in tf.unstack(logits, axis=2))
    batch, tokens = tf.shape(logits)[0], tf.shape(logits)[1]
    padded = tf.pad(ends, [[0, 0], [0, max_tokens - 1]], constant_values=_IMPOSSIBLE)
    # Each start beside the ends that it may have: `[batch, tokens, max_tokens]`.
    within = tf.range(tokens)[:, None] + tf.range(max_tokens)
    scores = starts[:, :, None] + tf.gather(padded, within, axis=1)
    flat = tf.reshape(scores, [batch, tokens * max_tokens])
    best = tf.argmax(flat, axis=1, output_type=tf.int32)
    start, score = best // max_tokens, tf.reduce_max(flat, axis=1)
    end = start + best % max_tokens
    found = score > _IMPOSSIBLE / 2
    nothing = tf.reduce_sum(logits[:, 0], axis=-1)
    return Spans(
        tf.where(found, start, 0), tf.where(found, end, 0), tf.where(found, score, nothing)
    )
