import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.optimization import adamw, is_matrix, warmup_cosine


def test_schedule_by_hand():
    schedule = warmup_cosine(1.0, total_steps=110, warmup_steps=10)
    found = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 0.55, 0.1], abs=1e-6)
    assert float(warmup_cosine(1.0, total_steps=5, warmup_steps=0)(0)) == 1.0
    assert float(warmup_cosine(1.0, total_steps=2000)(100)) == pytest.approx(1.0)


def test_warm_up_longer_than_training_is_refused():
    with pytest.raises(InputError, match="warm-up of 7 steps.* which has 7"):
        warmup_cosine(1.0, total_steps=7, warmup_steps=7)


def test_only_matrices_decay():
    matrix = tf.Variable(tf.ones([2, 3]), name="ln_1/kernel")
    bias = tf.Variable(tf.ones([1, 3]), name="c_attn/bias")
    scale = tf.Variable(tf.ones([3]), name="ln_1/gamma")
    assert [is_matrix(v) for v in (matrix, bias, scale)] == [True, False, False]
    optimizer = adamw(0.5, [matrix, bias, scale], weight_decay=0.1)
    zeros = [(tf.zeros_like(v), v) for v in (matrix, bias, scale)]
    optimizer.apply_gradients(zeros)
    np.testing.assert_allclose(matrix, 0.95 * np.ones([2, 3]), rtol=1e-6)
    np.testing.assert_array_equal(bias, np.ones([1, 3]))
    np.testing.assert_array_equal(scale, np.ones([3]))


def test_gradients_are_clipped_together():
    a, b = tf.Variable([0.0]), tf.Variable([0.0])
    optimizer = adamw(1.0, [a, b], weight_decay=0.0, beta_1=0.0, beta_2=0.0, epsilon=1.0)
    optimizer.apply_gradients([(tf.constant([30.0]), a), (tf.constant([40.0]), b)])
    # Clipped to (0.6, 0.8); with both betas 0 the step is g / (|g| + 1).
    assert [float(a[0]), float(b[0])] == pytest.approx([-0.6 / 1.6, -0.8 / 1.8])
