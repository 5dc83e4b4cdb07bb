import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError
from tfllm.optimization import LayerwiseAdamW, adamw, is_matrix, learning_rate_schedule

SHAPES = ([3, 4], [1, 4], [4], [5, 2])


def variables() -> list[tf.Variable]:
    rng = np.random.default_rng(0)
    return [
        tf.Variable(rng.standard_normal(shape).astype(np.float32), name=f"v{i}")
        for i, shape in enumerate(SHAPES)
    ]


def gradients(step: int) -> list[tf.Tensor]:
    rng = np.random.default_rng([1, step])
    return [tf.constant(rng.standard_normal(shape).astype(np.float32)) for shape in SHAPES]


def run(optimizer: keras.optimizers.Optimizer, found: list[tf.Variable], steps: range) -> None:
    for step in steps:
        optimizer.apply_gradients(zip(gradients(step), found, strict=True))


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


def test_without_clipping():
    a = tf.Variable([0.0])
    optimizer = adamw(1.0, [a], beta_1=0.0, beta_2=0.0, epsilon=1.0, clip_norm=None)
    optimizer.apply_gradients([(tf.constant([3.0]), a)])
    assert float(a[0]) == pytest.approx(-0.75)


def test_update_and_decay_are_multiplied_by_hand():
    low, high = tf.Variable([[10.0] * 2] * 2), tf.Variable([[10.0] * 2] * 2)
    optimizer = adamw(
        0.1,
        [low, high],
        weight_decay=0.2,
        beta_1=0.0,
        beta_2=0.0,
        epsilon=1.0,
        clip_norm=None,
        multipliers=[0.5, 1.0],
    )
    optimizer.apply_gradients([(tf.ones([2, 2]), low), (tf.ones([2, 2]), high)])
    # Decay 0.2 · rate · 10, then rate · 1 / (1 + 1): rate 0.05 below, 0.1 above.
    np.testing.assert_allclose(low, np.full([2, 2], 10 - 0.1 - 0.025), rtol=1e-6)
    np.testing.assert_allclose(high, np.full([2, 2], 10 - 0.2 - 0.05), rtol=1e-6)
    assert float(optimizer.learning_rate) == np.float32(0.1)


@pytest.mark.parametrize("in_graph", [False, True])
def test_each_variable_moves_as_in_keras_adamw_of_its_rate(in_graph):
    """Up to rounding: ours is one fused kernel."""
    multipliers = [1.0, 0.5, 0.25, 0.125]
    ours = variables()
    schedule = learning_rate_schedule("cosine", 0.03, total_steps=9, warmup_steps=2)
    optimizer = adamw(schedule, ours, clip_norm=None, multipliers=multipliers)
    step = tf.function(optimizer.apply_gradients) if in_graph else optimizer.apply_gradients
    for t in range(6):
        step(list(zip(gradients(t), ours, strict=True)))
    for i, multiplier in enumerate(multipliers):
        theirs = variables()[i]
        rate = learning_rate_schedule("cosine", 0.03 * multiplier, total_steps=9, warmup_steps=2)
        reference = keras.optimizers.AdamW(rate, 0.1, beta_1=0.9, beta_2=0.95, epsilon=1e-8)
        if not is_matrix(theirs):
            reference.exclude_from_weight_decay([theirs])
        for t in range(6):
            reference.apply_gradients([(gradients(t)[i], theirs)])
        np.testing.assert_allclose(ours[i], theirs, atol=2e-7)


def test_sparse_gradients_equal_dense_ones():
    sparse, dense = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.ones([4, 2]))
    rows = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [3.0, 4.0], [0.5, 0.5]]), tf.constant([2, 0, 2]), [4, 2]
    )
    for variable, gradient in ((sparse, rows), (dense, tf.convert_to_tensor(rows))):
        optimizer = adamw(0.1, [variable], multipliers=[0.5])
        for _ in range(3):
            optimizer.apply_gradients([(gradient, variable)])
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)
    assert abs(float(sparse[2, 0]) - 1.0) > 0.05


def test_compiled_updates_equal_plain_ones():
    """On a GPU Keras compiles each variable's update with XLA; here it is asked to."""
    results = []
    for compiled in (False, True):
        found = variables()
        optimizer = adamw(0.03, found, multipliers=[1.0, 0.5, 0.3, 0.2])
        optimizer.jit_compile = compiled
        run(optimizer, found, range(3))
        results.append([v.numpy() for v in found])
    for plain, xla in zip(*results, strict=True):
        np.testing.assert_allclose(plain, xla, rtol=2e-6)


def test_a_float_rate_can_be_set():
    found = variables()
    optimizer = adamw(0.1, found)
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25


def test_killed_and_resumed_is_the_same_bits(tmp_path):
    def create():
        found = variables()
        schedule = learning_rate_schedule("linear", 0.03, total_steps=9, warmup_steps=2)
        optimizer = adamw(schedule, found, multipliers=[1.0, 0.7, 0.4, 0.1], average_momentum=0.9)
        return found, optimizer, tf.train.Checkpoint(variables=found, optimizer=optimizer)

    found, optimizer, checkpoint = create()
    run(optimizer, found, range(3))
    path = checkpoint.write(str(tmp_path / "three"))
    run(optimizer, found, range(3, 6))

    again, restored, checkpoint = create()
    run(restored, again, range(1))  # something to overwrite
    checkpoint.read(path).assert_existing_objects_matched()
    assert int(restored.iterations) == 3
    run(restored, again, range(3, 6))
    for a, b in zip([*found, *optimizer.variables], [*again, *restored.variables], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_of_keras_adamw_can_be_gone_on_with(tmp_path):
    theirs, ours = variables(), variables()
    reference = keras.optimizers.AdamW(0.01, 0.1)
    run(reference, theirs, range(2))
    path = tf.train.Checkpoint(v=theirs, optimizer=reference).write(str(tmp_path / "keras"))
    optimizer = adamw(0.01, ours)
    status = tf.train.Checkpoint(v=ours, optimizer=optimizer).read(path)
    status.assert_existing_objects_matched()
    assert [v.name for v in optimizer.variables] == [
        name.replace("AdamW/", "") for name in (v.name for v in reference.variables)
    ]
    for a, b in zip([*ours, *optimizer.variables], [*theirs, *reference.variables], strict=True):
        np.testing.assert_array_equal(a, b)


def test_saved_and_made_again():
    ours, others = variables(), variables()
    schedule = learning_rate_schedule("linear", 0.03, total_steps=9, warmup_steps=2)
    optimizer = adamw(schedule, ours, multipliers=[1.0, 0.7, 0.4, 0.1], average_momentum=0.9)
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(config)
    assert type(again) is LayerwiseAdamW and again.get_config() == optimizer.get_config()
    run(optimizer, ours, range(3))
    run(again, others, range(3))  # built by its first step, with decay on matrices only
    for a, b in zip([*ours, *optimizer.variables], [*others, *again.variables], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_that_loss_scaling_skips_changes_nothing():
    found = variables()
    before = [v.numpy() for v in found]
    inner = adamw(0.1, found, multipliers=[1.0, 0.7, 0.4, 0.1], average_momentum=0.5)
    optimizer = keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=8.0)

    @tf.function
    def step(gradients):
        optimizer.get_scaled_loss(tf.constant(1.0))
        gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, found, strict=True))

    step([g * np.inf for g in gradients(0)])
    for a, b in zip(found, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not inner.has_average() and float(optimizer.loss_scale) == 4.0
    step([4.0 * g for g in gradients(0)])
    assert inner.has_average()
    for variable, old in zip(found, before, strict=True):
        assert np.abs(variable.numpy() - old).min() > 0
        np.testing.assert_allclose(inner.average_of(variable), variable, rtol=1e-6)


def test_what_is_refused():
    with pytest.raises(ValueError, match="Received: 2 multipliers, 4 variables"):
        adamw(0.1, variables(), multipliers=[1.0, 1.0])
    with pytest.raises(InputError, match="at least 0 and below 1. Received: 1.0"):
        adamw(0.1, variables(), average_momentum=1.0)
