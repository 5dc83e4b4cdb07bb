"""One normalization: replicas and micro-batches equal one big batch."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm import optimization
from tfllm.models import CausalLM

CONFIG = GPT2Config(
    vocab_size=13,
    n_positions=6,
    n_embd=8,
    n_layer=1,
    n_head=2,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


def batch(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Twelve rows of very unequal weight; the last three have none."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 13, (12, 7)).astype(np.int32)
    weights = (np.arange(6) < rng.integers(1, 7, (12, 1))).astype(np.float32)
    weights[9:] = 0.0
    return {"input_ids": ids[:, :-1]}, ids[:, 1:], weights


def trained(accumulate_steps: int, weights: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    model = CausalLM.from_config(CONFIG)
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(0.5), accumulate_steps=accumulate_steps)
    history = model.fit(tf.data.Dataset.from_tensors(batch()).repeat(3), verbose=0)
    return model.get_weights(), history.history["loss"][0]


def test_micro_batches_equal_one_batch():
    start = CausalLM.from_config(CONFIG).get_weights()
    whole, loss = trained(1, start)
    for k in (2, 4):
        parts, parts_loss = trained(k, start)
        assert parts_loss == pytest.approx(loss, rel=1e-5)
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_steps_compiled_with_xla_are_the_same(monkeypatch):
    monkeypatch.setattr("tfllm.losses._CHUNK_ELEMENTS", 13 * 128)
    start = CausalLM.from_config(CONFIG).get_weights()
    found = []
    for xla in (False, True):
        model = CausalLM.from_config(CONFIG)
        model.set_weights(start)
        optimizer = optimization.adamw(0.01, model.trainable_variables, average_momentum=0.9)
        model.compile(optimizer, accumulate_steps=2, jit_compile=xla)
        data = tf.data.Dataset.from_tensors(batch()).repeat(3)
        logs = model.fit(data, verbose=0).history
        found.append([logs["loss"][0], model.evaluate(data, verbose=0), *model.get_weights()])
    for a, b in zip(*found, strict=True):
        # AdamW amplifies the noise of gradients that are zero, those of biases of keys.
        np.testing.assert_allclose(a, b, atol=2e-2 if np.shape(a) == (1, 24) else 1e-5)


def test_the_loss_is_divided_by_the_weight():
    model = CausalLM.from_config(CONFIG)
    features, targets, weights = batch()
    model.compile(keras.optimizers.SGD(0.0))
    logs = model.train_on_batch(features, targets, weights, return_dict=True)
    shares = tf.nn.log_softmax(model(features)).numpy()
    each = -np.take_along_axis(shares, targets[..., None], -1)[..., 0]
    assert logs["step_loss"] == pytest.approx((each * weights).sum() / weights.sum(), rel=1e-5)


def test_a_batch_without_weight_changes_nothing():
    model = CausalLM.from_config(CONFIG)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.5))
    features, targets, weights = batch()
    logs = model.train_on_batch(features, targets, 0 * weights, return_dict=True)
    assert logs["loss"] == 0.0
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_of_a_size_that_the_graph_does_not_know():
    model = CausalLM.from_config(CONFIG)
    model.compile(keras.optimizers.SGD(0.1))
    data = tf.data.Dataset.from_tensor_slices(batch()).batch(5)  # 5, 5, 2 rows
    assert np.isfinite(model.fit(data, verbose=0).history["loss"][0])


def test_legacy_optimizers_are_refused():
    with pytest.raises(ValueError, match="legacy optimizers don't work"):
        CausalLM.from_config(CONFIG).compile(keras.optimizers.legacy.Adam())


def test_a_batch_without_targets_is_refused():
    model = CausalLM.from_config(CONFIG)
    model.compile("adam")
    with pytest.raises(ValueError, match=r"must be \(features, targets\)"):
        model.train_on_batch(batch()[0]["input_ids"])


def test_mixed_float16_scales_its_loss():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = CausalLM.from_config(CONFIG)
        model.compile(keras.optimizers.Adam(0.01))
        assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        data = tf.data.Dataset.from_tensors(batch()).repeat(30)
        losses = model.fit(data, verbose=0, epochs=2, steps_per_epoch=15).history["loss"]
        assert losses[1] < losses[0]
        assert model(batch()[0]).dtype == tf.float32
        assert {v.dtype for v in model.trainable_variables} == {tf.float32}
    finally:
        keras.mixed_precision.set_global_policy("float32")


REPLICAS = textwrap.dedent(
    """
    import json, sys
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    sys.path.insert(0, sys.argv[1])
    from test_step import CONFIG, Recorder, unequal_batches
    from tfllm.models import CausalLM

    cpu = tf.config.list_physical_devices("CPU")[0]
    config = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [config] * 4)
    start = CausalLM.from_config(CONFIG).get_weights()
    batches = unequal_batches(10)

    def run(devices, parts):
        names = [f"CPU:{i}" for i in range(devices)]
        mirrored = tf.distribute.MirroredStrategy(names)
        strategy = mirrored if devices > 1 else tf.distribute.get_strategy()
        with strategy.scope():
            model = CausalLM.from_config(CONFIG)
            model.set_weights(start)
            model.compile(Recorder(0.1), accumulate_steps=parts)
        gradients, losses = [], []
        class Note(keras.callbacks.Callback):
            def on_train_batch_end(self, step, logs):
                losses.append(float(logs["step_loss"]))
                gradients.append(self.model.optimizer.gradients())
        model.fit(batches, verbose=0, callbacks=[Note()])
        losses.append(model.evaluate(batches, verbose=0))
        return np.array(losses), np.array(gradients), model.get_weights()

    losses, gradients, weights = run(1, 1)
    norms = np.linalg.norm(gradients, axis=1)
    for devices, parts in json.loads(sys.argv[2]):
        found = run(devices, parts)
        np.testing.assert_allclose(found[0], losses, rtol=1e-5)
        errors = np.linalg.norm(found[1] - gradients, axis=1) / norms
        apart = max(np.abs(a - b).max() for a, b in zip(found[2], weights))
        assert errors.max() <= 1e-6 and apart <= 1e-5, (devices, parts, errors, apart)
        print(f"{devices} devices, {parts} micro-batches: {errors.max():.1e}, {apart:.1e}")
    """
)


class Recorder(keras.optimizers.SGD):
    """Remembers the newest gradients."""

    def build(self, variables):
        if hasattr(self, "_seen"):
            return
        super().build(variables)
        self._seen = [self.add_variable_from_reference(v, "seen") for v in variables]

    def update_step(self, gradient, variable):
        self._seen[self._index_dict[self._var_key(variable)]].assign(gradient)
        super().update_step(gradient, variable)

    def gradients(self) -> np.ndarray:
        return np.concatenate([seen.numpy().ravel() for seen in self._seen])


def unequal_batches(steps: int) -> tf.data.Dataset:
    """48 rows of one to six targets each; the second half has none, so one replica has none."""
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 13, (steps, 48, 7)).astype(np.int32)
    weights = (np.arange(6) < rng.integers(1, 7, (steps, 48, 1))).astype(np.float32)
    weights[:, 24:] = 0.0
    features = {"input_ids": ids[..., :-1]}
    return tf.data.Dataset.from_tensor_slices((features, ids[..., 1:], weights))


def run_program(program: str, tmp_path: Path, *arguments: object) -> str:
    """In a process of its own: logical devices must be made before TensorFlow starts."""
    (tmp_path / "program.py").write_text(program)
    folder = str(Path(__file__).parent)
    command = [sys.executable, str(tmp_path / "program.py"), folder, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("devices", "parts"),
    [
        (2, [4]),
        pytest.param(1, [2, 4], marks=pytest.mark.slow),
        pytest.param(2, [1, 2], marks=pytest.mark.slow),
        pytest.param(3, [1, 2, 4], marks=pytest.mark.slow),
        pytest.param(4, [1, 2, 4], marks=pytest.mark.slow),
    ],
)
def test_replicas_and_micro_batches_equal_one_device(devices, parts, tmp_path):
    # One process can't hold mirrored strategies of different sizes.
    out = run_program(REPLICAS, tmp_path, [[devices, count] for count in parts])
    print(out)
    assert len(out.splitlines()) == len(parts)


def poisoned(weights: np.ndarray) -> np.ndarray:
    weights = weights.copy()
    weights[0, 0] = np.nan
    return weights


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_step_that_is_not_finite_is_skipped_and_counted(precision):
    keras.mixed_precision.set_global_policy(precision)
    try:
        model = CausalLM.from_config(CONFIG)
        model.compile(keras.optimizers.AdamW(0.01), accumulate_steps=2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    features, targets, weights = batch()

    def step(weights: np.ndarray) -> dict[str, float]:
        return model.train_on_batch(features, targets, weights, return_dict=True)

    logs = step(weights)
    assert logs["skipped"] == 0 and np.isfinite(logs["gradient_norm"])
    assert logs["padding"] == pytest.approx((weights == 0).mean())
    before = [v.numpy() for v in (*model.weights, *model.optimizer.variables[1:])]
    for expected in (1, 2):
        logs = step(poisoned(weights))
        assert logs["skipped"] == logs["skipped_in_a_row"] == expected
        assert np.isnan(logs["step_loss"])
    if precision == "float32":
        after = [v.numpy() for v in (*model.weights, *model.optimizer.variables[1:])]
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
    else:
        assert model.optimizer.loss_scale == 2**13
        for a, b in zip(before[: len(model.weights)], model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == 3
    logs = step(weights)
    assert logs["skipped"] == 2 and logs["skipped_in_a_row"] == 0
    assert np.isfinite(logs["step_loss"]) and np.isfinite(logs["loss"])


SKIPPING_REPLICAS = textwrap.dedent(
    """
    import sys
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    sys.path.insert(0, sys.argv[1])
    from test_step import CONFIG, batch, poisoned
    from tfllm.models import CausalLM

    cpu = tf.config.list_physical_devices("CPU")[0]
    config = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [config] * 2)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = CausalLM.from_config(CONFIG)
        model.compile(keras.optimizers.AdamW(0.01))
    features, targets, weights = batch()
    logs = []
    before = model.get_weights()
    for one in (poisoned(weights), weights):
        data = tf.data.Dataset.from_tensors((features, targets, one))
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda _, found: logs.append(
                [float(found["skipped"]), int(model.optimizer.iterations.numpy())]
            )
        )
        model.fit(data, verbose=0, callbacks=[note])
        same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
        logs[-1].append(same)
    print(logs)
    """
)


def test_replicas_skip_together(tmp_path):
    out = run_program(SKIPPING_REPLICAS, tmp_path)
    assert out == "[[1.0, 1, True], [1.0, 2, False]]\n"
