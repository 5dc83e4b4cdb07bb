import numpy as np
import pytest
import tensorflow as tf

from tfllm.layers.activations import gelu

POINTS = np.concatenate([np.linspace(-6, 6, 241), [-40.0, 40.0]])


def test_gelu_equals_tensorflows():
    x = tf.constant(POINTS, tf.float32)
    np.testing.assert_allclose(gelu(x), tf.nn.gelu(x), rtol=1e-6, atol=1e-6)


def test_gradient_of_gelu_equals_tensorflows():
    x = tf.constant(POINTS, tf.float32)
    found = []
    for function in (gelu, tf.nn.gelu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(function(x) * tf.cast(POINTS + 2.0, tf.float32))
        found.append(tape.gradient(y, x))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_gelu_keeps_the_precision_of_its_input(dtype):
    x = tf.cast(POINTS, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = gelu(x)
    slope = tape.gradient(y, x)
    assert y.dtype == slope.dtype == dtype
    exact = tf.cast(gelu(tf.cast(x, tf.float32)), dtype)
    np.testing.assert_array_equal(tf.cast(y, tf.float32), tf.cast(exact, tf.float32))
    assert np.all(np.isfinite(tf.cast(slope, tf.float32)))
