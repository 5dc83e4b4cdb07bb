import numpy as np
import pytest
import tensorflow as tf

from tfllm.layers.halves import in_halves


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("static", [True, False])
def test_halves_are_joined_in_order(rows, static):
    seen = []

    def add(x, y):
        seen.append(x)
        return x @ tf.constant([[1.0], [10.0]]) + y

    spec = [rows if static else None, 2], [rows if static else None, 1]
    function = tf.function(
        lambda x, y: in_halves(add, x, y), input_signature=[tf.TensorSpec(shape) for shape in spec]
    )
    x = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    y = 100 * np.arange(1.0 * rows, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(function(x, y), x @ [[1.0], [10.0]] + y)
    assert len(seen) == 2


def test_gradients_pass_both_halves():
    x = tf.constant([[1.0], [2.0], [3.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(in_halves(tf.square, x))
    np.testing.assert_array_equal(tape.gradient(total, x), 2 * x)
