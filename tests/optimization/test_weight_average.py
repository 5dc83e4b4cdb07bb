import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.optimization import adamw, average_in_place

FEATURES = np.random.default_rng(2).standard_normal([12, 3]).astype(np.float32)
TARGETS = FEATURES @ np.array([[1.0], [-2.0], [0.5]], np.float32)


def create(average_momentum: float | None = 0.8, *, in_graph: bool = False) -> keras.Model:
    keras.utils.set_random_seed(4)
    layers = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.build([None, 3])
    optimizer = adamw(0.05, model.trainable_variables, average_momentum=average_momentum)
    model.compile(optimizer, "mse", run_eagerly=not in_graph)
    return model


def fit(model: keras.Model, steps: int) -> None:
    data = tf.data.Dataset.from_tensor_slices((FEATURES, TARGETS)).batch(4).repeat()
    model.fit(data, steps_per_epoch=steps, verbose=0)


def everything(model: keras.Model) -> list[np.ndarray]:
    return [v.numpy() for v in (*model.weights, *model.optimizer.variables)]


def assert_same(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=15)
@given(st.floats(0.0, 0.99999), st.integers(1, 12))
def test_it_is_the_weighted_mean_of_the_weights_after_each_update(momentum, steps):
    variable = tf.Variable([3.0, -2.0, 0.1])
    optimizer = adamw(0.1, [variable], average_momentum=momentum)
    seen = []
    for step in range(steps):
        gradient = np.random.default_rng(step).standard_normal(3).astype(np.float32)
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        seen.append(variable.numpy().astype(np.float64))
    shares = np.array([momentum ** (steps - 1 - i) for i in range(steps)])
    wanted = shares @ np.array(seen) / shares.sum()
    np.testing.assert_allclose(optimizer.average_of(variable), wanted, rtol=3e-6, atol=1e-6)


def test_by_hand():
    variable = tf.Variable([0.0])
    # With these numbers a gradient of 1 moves the variable by 1.
    optimizer = adamw(2.0, [variable], beta_1=0.0, beta_2=0.0, epsilon=1.0, average_momentum=0.5)
    averages = []
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([-1.0]), variable)])
        averages.append(float(optimizer.average_of(variable)[0]))
    # 1; (1 + 2·2) / 3; (1 + 2·2 + 4·3) / 7
    assert averages == pytest.approx([1.0, 5 / 3, 17 / 7])


def test_a_momentum_near_one_keeps_the_scale():
    """Weights that do not move are their own average, after however many updates."""
    variable = tf.Variable([0.7])
    optimizer = adamw(0.1, [variable], average_momentum=0.9999)
    step = tf.function(optimizer.apply_gradients)
    for _ in range(200):
        step([(tf.zeros([1]), variable)])
    assert float(optimizer.average_of(variable)[0]) == float(variable[0])


def test_training_is_untouched_by_the_average():
    plain, averaged = create(None, in_graph=True), create(in_graph=True)
    for model in (plain, averaged):
        fit(model, 3)
        fit(model, 2)
    assert_same(averaged.get_weights(), plain.get_weights())


def test_in_place_and_back():
    model = create(in_graph=True)
    fit(model, 5)
    before = everything(model)
    averages = [model.optimizer.average_of(v).numpy() for v in model.trainable_variables]
    loss = model.evaluate(FEATURES, TARGETS, verbose=0)
    with average_in_place(model):
        assert_same(model.get_weights(), averages)
        average_loss = model.evaluate(FEATURES, TARGETS, verbose=0)
    assert_same(everything(model), before)
    assert model.evaluate(FEATURES, TARGETS, verbose=0) == loss != average_loss
    model.set_weights(averages)
    assert model.evaluate(FEATURES, TARGETS, verbose=0) == average_loss


def test_an_error_within_leaves_nothing_exchanged():
    model = create()
    fit(model, 3)
    before = everything(model)
    with pytest.raises(KeyError), average_in_place(model):
        raise KeyError
    assert_same(everything(model), before)
    with average_in_place(model):  # and it can be entered again
        pass


def test_before_the_first_update_nothing_changes():
    model = create()
    model.set_weights([w + 1.0 for w in model.get_weights()])
    before = everything(model)
    with average_in_place(model):
        assert_same(everything(model), before)


def test_frozen_layers_are_their_own_average():
    model = create()
    fit(model, 3)
    model.layers[0].trainable = False
    frozen = model.layers[0].get_weights()
    with average_in_place(model):
        assert_same(model.layers[0].get_weights(), frozen)


def test_under_loss_scaling():
    model = create()
    model.compile(
        keras.mixed_precision.LossScaleOptimizer(model.optimizer), "mse", run_eagerly=True
    )
    fit(model, 3)
    inner = model.optimizer.inner_optimizer
    wanted = [inner.average_of(v).numpy() for v in model.trainable_variables]
    with average_in_place(model):
        assert_same(model.get_weights(), wanted)


def test_resumed_with_its_average_bit_for_bit(tmp_path):
    whole = create()
    fit(whole, 3)
    path = tf.train.Checkpoint(model=whole, optimizer=whole.optimizer).write(str(tmp_path / "c"))
    fit(whole, 6)
    resumed = create()
    checkpoint = tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer)
    checkpoint.read(path).assert_existing_objects_matched()
    fit(resumed, 6)
    assert_same(everything(resumed), everything(whole))


def test_what_is_refused():
    model = create(None)
    with pytest.raises(ValueError, match="keeps no average"), average_in_place(model):
        pass
    model = create()
    fit(model, 1)
    before = everything(model)
    with pytest.raises(RuntimeError, match="in place already"), average_in_place(model):
        with average_in_place(model):
            pass
    assert_same(everything(model), before)
    with pytest.raises(RuntimeError, match="was trained while"), average_in_place(model):
        fit(model, 1)
