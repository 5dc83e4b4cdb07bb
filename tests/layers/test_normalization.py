import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfllm.layers.normalization import layer_norm


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 8)])
def test_value_and_gradients_equal_kerass(shape):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(2.0, 3.0, shape), tf.float32)
    layer = keras.layers.LayerNormalization(epsilon=1e-5)
    layer.build(shape)
    layer.gamma.assign(rng.normal(1.0, 0.5, shape[-1:]))
    layer.beta.assign(rng.normal(0.0, 0.5, shape[-1:]))
    upstream = tf.constant(rng.normal(size=shape), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        wanted = layer(x)
        found = layer_norm(x, layer.gamma, layer.beta, 1e-5)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    of = [x, layer.gamma, layer.beta]
    for a, b in zip(
        tape.gradient(found, of, upstream), tape.gradient(wanted, of, upstream), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_half_precision_is_computed_in_float32():
    x = tf.constant([[30000.0, 30001.0, 29990.0]], tf.bfloat16)
    found = layer_norm(x, tf.ones([3]), tf.zeros([3]), 1e-5)
    assert found.dtype == tf.bfloat16 and np.isfinite(tf.cast(found, tf.float32)).all()
