"""Trains on one device and on two logical ones, and compares; run by test_mirrored.py."""

import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfllm.optimization import adamw, average_in_place, learning_rate_schedule
from tfllm.training.step import SummedLossModel

MULTIPLIERS = [0.25, 0.25, 1.0, 1.0]
# Gradients' norms are 0.2 to 7 here.
CLIP_NORM = 0.1


class Net(SummedLossModel):
    def __init__(self) -> None:
        super().__init__()
        self.low = keras.layers.Dense(4, activation="tanh")
        self.high = keras.layers.Dense(1)
        self.build([None, 3])

    def call(self, features):
        return self.high(self.low(features))

    def loss_sum_and_weight(self, features, targets, weights, *, training, dropout_seed=None):
        error = tf.square(self(features) - targets) * weights
        return tf.reduce_sum(error), tf.reduce_sum(weights)


def batches(first: int, steps: int) -> tf.data.Dataset:
    """Six rows a batch; those of a second device weigh next to nothing."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal([8, 6, 3]).astype(np.float32)
    targets = features.sum(axis=-1, keepdims=True)
    weights = np.array([1.0, 2.0, 1.0, 0.0, 0.25, 0.0], np.float32)[:, None].repeat(8, 1).T
    part = slice(first, first + steps)
    data = (features[part], targets[part], weights[..., None][part])
    return tf.data.Dataset.from_tensor_slices(data)


def create(strategy: tf.distribute.Strategy, *, scaled: bool = False) -> SummedLossModel:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = Net()
        optimizer = adamw(
            learning_rate_schedule("cosine", 0.05, total_steps=8, warmup_steps=2),
            model.trainable_variables,
            clip_norm=CLIP_NORM,
            multipliers=MULTIPLIERS,
            average_momentum=0.8,
        )
        if scaled:
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        model.compile(optimizer)
    return model


def fit(model: SummedLossModel, first: int, steps: int) -> None:
    model.fit(batches(first, steps), verbose=0)


def everything(model: SummedLossModel) -> list[tf.Variable]:
    return [*model.weights, *model.optimizer.variables]


def trained(strategy: tf.distribute.Strategy, *, scaled: bool, path: str) -> list[np.ndarray]:
    """Weights, optimizer, and the weights with the average in place, after eight steps."""
    model = create(strategy, scaled=scaled)
    fit(model, 0, 3)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(path)
    fit(model, 3, 5)
    values = [v.numpy() for v in everything(model)]
    with average_in_place(model):
        average = [v.numpy() for v in model.weights]
        assert_same(average, model.weights)
    assert_same(values, everything(model))
    assert max(np.abs(a - b).max() for a, b in zip(values, average, strict=False)) > 1e-3
    return [*values, *average]


def assert_same(values: list[np.ndarray], variables: list[tf.Variable]) -> None:
    """Compare with the copies on all devices."""
    for value, variable in zip(values, variables, strict=True):
        for copy in getattr(variable, "values", [variable]):
            np.testing.assert_array_equal(value, copy.numpy())


def check_clipping_by_hand(strategy: tf.distribute.Strategy) -> None:
    """Replicas give (60, 0) and (0, 80): their sum is scaled down to (0.6, 0.8)."""
    with strategy.scope():
        a, b = tf.Variable([0.0]), tf.Variable([0.0])
        optimizer = adamw(1.0, [a, b], beta_1=0.0, beta_2=0.0, epsilon=1.0, clip_norm=1.0)

    @tf.function
    def step():
        def on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            second = tf.cast(replica, tf.float32)
            gradients = [60.0 * (1.0 - second)[None], 80.0 * second[None]]
            optimizer.apply_gradients(zip(gradients, [a, b], strict=True))

        strategy.run(on_replica)

    step()
    np.testing.assert_allclose([a.numpy()[0], b.numpy()[0]], [-0.6 / 1.6, -0.8 / 1.8], rtol=1e-6)


def check_resume(
    strategy: tf.distribute.Strategy, path: str, wanted: list[np.ndarray], *, scaled: bool
) -> None:
    model = create(strategy, scaled=scaled)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    checkpoint.read(path).assert_existing_objects_matched()
    fit(model, 3, 5)
    variables = everything(model)
    assert_same(wanted[: len(variables)], variables)


def main(folder: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    config = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [config] * 2)
    one = tf.distribute.get_strategy()
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    path = f"{folder}/three"
    wanted = trained(one, scaled=False, path=path)
    for scaled in (False, True):
        found = trained(two, scaled=scaled, path=path)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)
    check_resume(two, path, found, scaled=True)
    check_clipping_by_hand(two)
    print("equal")


main(sys.argv[1])
