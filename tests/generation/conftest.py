"""A model so small that every continuation can be tried, and its twin in NumPy."""

import numpy as np
import pytest
import tensorflow as tf


class TinyModel:
    """Logits are a layer over the sum of what was seen, each token times its position's vector.

    It is all that the loops ask of a model: the order of tokens counts, and so does what is
    visible.
    """

    def __init__(self, words: int, seed: int = 0, positions: int = 40, sharpness: float = 2.0):
        rng = np.random.default_rng(seed)
        self.max_positions = positions
        self.words = words
        self.tokens = rng.standard_normal([words, 6]).astype(np.float32)
        self.positions = rng.standard_normal([positions, 6]).astype(np.float32)
        self.head = (sharpness * rng.standard_normal([6, words])).astype(np.float32)
        self.reads = 0

    def read_prompt(self, input_ids, attention_mask, columns):
        self.reads += 1
        position = tf.maximum(tf.cumsum(attention_mask, axis=1) - 1, 0)
        states = self._states(input_ids, position)
        room = columns - tf.shape(input_ids)[1]
        cache = {"states": tf.pad(states, [[0, 0], [0, room], [0, 0]])}
        visible = tf.pad(tf.cast(attention_mask, tf.bool), [[0, 0], [0, room]])
        return self._logits(cache["states"], visible), cache

    def read_token(self, token, position, visible, cache, column):
        states = tf.transpose(cache["states"], [1, 0, 2])
        new = tf.transpose(self._states(token, position), [1, 0, 2])
        states = tf.tensor_scatter_nd_update(states, column[None, None], new)
        states = tf.transpose(states, [1, 0, 2])
        return self._logits(states, visible), {"states": states}

    def _states(self, token, position):
        return tf.gather(self.tokens, token) * tf.gather(self.positions, position)

    def _logits(self, states, visible):
        total = tf.reduce_sum(tf.where(visible[:, :, None], states, 0.0), axis=1)
        return tf.matmul(tf.tanh(total), self.head)

    def next_logits(self, ids: list[int]) -> np.ndarray:
        """What comes next after `ids`: `<float64>[words]`."""
        states = self.tokens[ids].astype(np.float64) * self.positions[: len(ids)]
        return np.tanh(states.sum(axis=0)) @ self.head.astype(np.float64)

    def next_likelihoods(self, ids: list[int]) -> np.ndarray:
        logits = self.next_logits(ids)
        logits -= logits.max()
        return logits - np.log(np.exp(logits).sum())


@pytest.fixture(scope="session")
def tiny_model() -> type[TinyModel]:
    return TinyModel
