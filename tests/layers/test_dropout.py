import numpy as np
import tensorflow as tf

from tfllm.layers.dropout import SeededDropout


def test_a_place_has_a_stream_of_its_own_and_the_rate():
    dropout = SeededDropout.when(True, tf.constant([3, 4], tf.int32))
    x = tf.ones([200, 100])
    a, again, b = dropout(x, 0.3, 1), dropout(x, 0.3, 1), dropout(x, 0.3, 2)
    np.testing.assert_array_equal(a, again)
    both = np.mean((np.asarray(a) == 0) & (np.asarray(b) == 0))
    assert abs(np.mean(np.asarray(a) == 0) - 0.3) < 0.015
    assert abs(both - 0.09) < 0.01
    np.testing.assert_allclose(np.unique(a), [0.0, 1 / 0.7], rtol=1e-6)
    assert abs(np.mean(dropout.mask([200, 100], 0.3, 5)) - 0.7) < 0.015


def test_another_step_drops_other_units():
    x = tf.ones([50, 10])
    steps = [SeededDropout.when(True, tf.constant([3, i], tf.int64))(x, 0.5, 0) for i in (1, 2)]
    assert np.any(np.asarray(steps[0]) != np.asarray(steps[1]))


def test_nothing_is_dropped_outside_training_or_at_rate_0():
    assert SeededDropout.when(False, tf.constant([1, 1])) is None
    x = tf.ones([3])
    assert SeededDropout.when(True, None)(x, 0.0, 0) is x
