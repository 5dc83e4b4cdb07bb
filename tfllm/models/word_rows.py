"""Rows of words within rows of tokens."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["WordRows"]


class WordRows(NamedTuple):
    """Where the words of a batch stand among its tokens.

    Example:
        Word starts 0 1 0 1 1 / 0 1 0 0 0 → lengths 3, 1, and of the tokens `abcde` / `fghij` the
        words are `bde` / `g`, padded.
    """

    tokens: tf.Tensor
    """`<int32>[words, 2]`: row and token of each."""
    words: tf.Tensor
    """`<int32>[words, 2]`: row of each, and its place among the row's words."""
    lengths: tf.Tensor
    """`<int32>[batch]`, words of each row."""
    width: tf.Tensor
    """`<int32>[]`, words of the row that has most, and at least 1."""
    token_shape: tf.Tensor
    """`<int32>[2]`: batch, tokens."""

    @classmethod
    def of(cls, is_start: tf.Tensor) -> WordRows:
        """Find the words, of which `<bool>[batch, tokens]` marks the first tokens."""
        tokens = tf.cast(tf.where(is_start), tf.int32)
        marks = tf.cast(is_start, tf.int32)
        places = tf.gather_nd(tf.cumsum(marks, axis=1, exclusive=True), tokens)
        lengths = tf.reduce_sum(marks, axis=1)
        return cls(
            tokens,
            tf.stack([tokens[:, 0], places], axis=1),
            lengths,
            tf.reduce_max(tf.concat([lengths, [1]], 0)),
            tf.shape(is_start),
        )

    def gather(self, values: tf.Tensor) -> tf.Tensor:
        """`[batch, tokens, …]` → `[batch, words, …]`, padded with 0."""
        shape = tf.concat([self.token_shape[:1], self.width[None], tf.shape(values)[2:]], 0)
        found = tf.scatter_nd(self.words, tf.gather_nd(values, self.tokens), shape)
        return tf.ensure_shape(found, [None, None, *values.shape[2:]])

    def scatter(self, values: tf.Tensor, elsewhere: float) -> tf.Tensor:
        """`[batch, words]` → `[batch, tokens]`, with a number on other tokens."""
        empty = tf.fill(self.token_shape, tf.constant(elsewhere, values.dtype))
        return tf.tensor_scatter_nd_update(empty, self.tokens, tf.gather_nd(values, self.words))
