"""The pieces that words are split into."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["Pieces"]


class Pieces(NamedTuple):
    """The pieces of some words, one word after another."""

    ids: tf.Tensor
    """`<int32>[pieces]`."""
    firsts: tf.Tensor
    """`<int32>[pieces]`: the code point of its word that each starts with."""
    lasts: tf.Tensor
    """`<int32>[pieces]`: the code point of its word that each ends with."""
    counts: tf.Tensor
    """`<int32>[words]`: number of pieces of each word."""
