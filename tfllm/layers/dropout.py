"""Dropout that is a function of a seed, so that it can be drawn again."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["ADAPTER_SITES", "SeededDropout"]

# Dropout inside adapters is numbered from here on, past the sites of 100,000 blocks.
ADAPTER_SITES = 300_001


class SeededDropout(NamedTuple):
    """Where a forward pass's dropout comes from: drawn statelessly, so it can be drawn again.

    Attributes:
        seed: `<int64>[2]`, another for each step.
    """

    seed: tf.Tensor

    @classmethod
    def when(cls, training: bool, seed: tf.Tensor | None) -> SeededDropout | None:
        """Make one for training, from `tf.random` without a seed; None where nothing is dropped."""
        if not training:
            return None
        if seed is None:
            seed = tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64)
        return cls(tf.cast(seed, tf.int64))

    def __call__(self, x: tf.Tensor, rate: float, site: int) -> tf.Tensor:
        """Zero a `rate` of `x`, scale the rest by `1/(1−rate)`; `site` numbers the place."""
        if rate == 0.0:
            return x
        return tf.nn.experimental.stateless_dropout(x, rate, self.seed_at(site), rng_alg="philox")

    def mask(self, shape: tf.Tensor, rate: float, site: int) -> tf.Tensor:
        """Draw what stays, `<bool>` of a shape."""
        return tf.random.stateless_uniform(shape, self.seed_at(site), alg="philox") >= rate

    def seed_at(self, site: int) -> tf.Tensor:
        """A seed of the place's own, `<int64>[2]`."""
        return tf.stack([self.seed[0] * 1_000_003 + site, self.seed[1]])
