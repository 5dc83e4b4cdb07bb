"""One adapter on one projection."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_tf_utils import TFConv1D

from tfllm.layers.lora import LoRA, kernel_of


def dense(inputs: int, outputs: int, seed: int = 0, **kwargs: object) -> keras.layers.Dense:
    layer = keras.layers.Dense(outputs, bias_initializer="normal", **kwargs)
    layer.build([None, inputs])
    layer.kernel.assign(np.random.default_rng(seed).standard_normal((inputs, outputs)))
    return layer


def conv1d(inputs: int, outputs: int, seed: int = 0) -> TFConv1D:
    layer = TFConv1D(outputs, inputs)
    layer.build(None)
    layer.weight.assign(np.random.default_rng(seed).standard_normal((inputs, outputs)))
    return layer


def test_the_formula_by_hand():
    layer = LoRA(dense(2, 2, use_bias=False), rank=1, alpha=3)
    layer.base.kernel.assign([[1.0, 2.0], [3.0, 4.0]])
    layer.lora_a.assign([[1.0], [-1.0]])
    layer.lora_b.assign([[10.0, 20.0]])
    # x = (5, 7): x·W = (26, 38); x·A = −2; times 3/1 and B: (−60, −120).
    assert layer(tf.constant([[5.0, 7.0]])).numpy().tolist() == [[-34.0, -82.0]]
    assert layer.merged_kernel().tolist() == [[31.0, 62.0], [-27.0, -56.0]]


@pytest.mark.parametrize("make", [dense, conv1d])
def test_a_new_adapter_changes_not_a_bit(make):
    base = make(6, 5)
    x = tf.random.stateless_normal([3, 4, 6], [1, 2])
    before = base(x).numpy()
    layer = LoRA(base, rank=2, alpha=16, dropout=0.5)
    np.testing.assert_array_equal(layer(x), before)
    np.testing.assert_array_equal(layer(x, dropout_seed=tf.constant([1, 2], tf.int64)), before)
    assert [v.shape.as_list() for v in layer.trainable_weights] == [[6, 2], [2, 5]]
    assert 0.2 < np.abs(layer.lora_a).max() < 6**-0.5


@settings(max_examples=25)
@given(
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    rank=st.integers(1, 9),
    alpha=st.floats(0.1, 64),
    seed=st.integers(0, 10_000),
)
def test_merged_equals_adapter(inputs, outputs, rank, alpha, seed):
    rng = np.random.default_rng(seed)
    layer = LoRA(dense(inputs, outputs, seed), rank=rank, alpha=alpha)
    layer.lora_b.assign(rng.standard_normal((rank, outputs)))
    x = rng.standard_normal((3, inputs)).astype(np.float32)
    with_adapter = layer(x).numpy()
    exact = layer.base_kernel.numpy().astype(np.float64)
    exact += layer.scale * (layer.lora_a.numpy().astype(np.float64) @ layer.lora_b.numpy())
    base = layer.merge()
    np.testing.assert_array_equal(base.kernel, exact.astype(np.float32))
    # The sums of float32 products are as far from each other as their absolute values allow.
    spread = (np.abs(x) @ np.abs(exact)).max() + np.abs(with_adapter).max()
    np.testing.assert_allclose(base(x), with_adapter, atol=1e-5 * max(1.0, spread))


def test_a_graph_of_the_adapter_is_right_after_merging():
    layer = LoRA(dense(4, 3), rank=2, alpha=4)
    layer.lora_b.assign(tf.ones([2, 3]))
    graph = tf.function(lambda x: layer(x))
    x = tf.random.stateless_normal([5, 4], [0, 1])
    before = graph(x).numpy()
    layer.merge()
    np.testing.assert_allclose(graph(x), before, atol=1e-5)


def test_dropout_is_a_function_of_its_seed_and_of_the_adapter_alone():
    layer = LoRA(dense(50, 3), rank=2, alpha=4, dropout=0.4)
    layer.lora_b.assign(tf.ones([2, 3]))
    x = tf.ones([2000, 50])

    def change(*seed: int) -> np.ndarray:
        dropped = layer(x, dropout_seed=tf.constant(seed, tf.int64)).numpy()
        return dropped - layer.base(x).numpy()

    np.testing.assert_array_equal(change(1, 2), change(1, 2))
    assert np.abs(change(1, 2) - change(1, 3)).max() > 0.1
    full = (layer(x) - layer.base(x)).numpy()
    assert full.std(axis=0).max() < 1e-3 < change(1, 2).std(axis=0).min()
    np.testing.assert_allclose(change(1, 2).mean(axis=0), full.mean(axis=0), atol=0.05)


def test_only_the_adapter_gets_gradients():
    layer = LoRA(dense(4, 3), rank=2, alpha=4)
    x = tf.random.stateless_normal([5, 4], [0, 1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    upstream = 2 * layer(x)
    by_a, by_b = tape.gradient(loss, layer.trainable_weights)
    np.testing.assert_array_equal(by_a, tf.zeros([4, 2]))  # because B is zero
    expected = 2.0 * tf.matmul(tf.matmul(x, layer.lora_a), upstream, transpose_a=True)
    np.testing.assert_allclose(by_b, expected, rtol=1e-5, atol=1e-5)
    assert layer.base.trainable_weights == []


def test_code_that_reads_the_matrix_past_the_layer_fails_loudly():
    layer = LoRA(conv1d(4, 3), rank=2, alpha=4)
    for name in ("kernel", "weight", "bias"):
        with pytest.raises(AttributeError):
            getattr(layer, name)
    assert kernel_of(layer) is kernel_of(layer.base) is layer.base.weight


def test_initial_values_follow_the_seed():
    a, same, other, next_layer = (
        LoRA(dense(4, 3), rank=2, alpha=4, seed=seed).lora_a.numpy()
        for seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    np.testing.assert_array_equal(a, same)
    assert np.abs(a - other).min() > 0 and np.abs(a - next_layer).min() > 0


def test_half_precision_computes_half_and_keeps_and_merges_whole():
    base = dense(16, 8, dtype=keras.mixed_precision.Policy("mixed_bfloat16"))
    layer = LoRA(base, rank=2, alpha=1)
    layer.lora_b.assign(1e-3 * tf.random.stateless_normal([2, 8], [3, 4]))
    assert layer(tf.ones([2, 16])).dtype == tf.bfloat16
    assert {v.dtype for v in layer.weights} == {tf.float32}
    merged = layer.merged_kernel()
    # bfloat16 has 8 bits: the change would not survive it.
    assert merged.dtype == np.float32
    difference = merged - base.kernel.numpy()
    np.testing.assert_allclose(
        difference, 0.5 * layer.lora_a.numpy() @ layer.lora_b.numpy(), atol=1e-6
    )
