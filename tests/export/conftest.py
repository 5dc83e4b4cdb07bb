import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf


class Scorer(tf.Module):
    """`<string>[batch]` → `<float32>[batch, 2]`, by way of a table and a variable."""

    def __init__(self, rows=2):
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1, 2], tf.int64))
        self.table = tf.lookup.StaticHashTable(pairs, -1)
        self.weights = tf.Variable(tf.reshape(tf.range(rows * 2.0), [rows, 2]))
        self.not_served = tf.Variable(tf.ones([1000]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def score(self, texts):
        words = tf.strings.split(texts)
        ids = self.table.lookup(words.flat_values)
        sums = tf.reduce_sum(words.with_values(tf.cast(ids, tf.float32)), axis=1)
        length = tf.cast(tf.strings.length(texts, unit="BYTE"), tf.float32)
        return {"scores": sums[:, tf.newaxis] * self.weights[1] + length[:, tf.newaxis]}


@pytest.fixture(scope="session")
def scorer_class():
    return Scorer


@pytest.fixture
def scorer(scorer_class):
    return scorer_class()
