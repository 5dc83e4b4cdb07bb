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


def test_replicas_equal_one_device(tmp_path):
    """In a process of its own: logical devices must be made before TensorFlow starts."""
    program = textwrap.dedent(
        """
        import sys
        import numpy as np
        import tensorflow as tf
        import tf_keras as keras
        sys.path.insert(0, sys.argv[1])
        from test_step import CONFIG, batch
        from tfllm.models import CausalLM

        cpu = tf.config.list_physical_devices("CPU")[0]
        config = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [config] * 4)
        start = CausalLM.from_config(CONFIG).get_weights()
        results = []
        # Three rows a device; those of the last device have no weight.
        mirrored = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(4)])
        for strategy, parts in ((tf.distribute.get_strategy(), 1), (mirrored, 3)):
            with strategy.scope():
                model = CausalLM.from_config(CONFIG)
                model.set_weights(start)
                model.compile(keras.optimizers.SGD(0.5), accumulate_steps=parts)
            data = tf.data.Dataset.from_tensors(batch()).repeat(3)
            loss = model.fit(data, verbose=0).history["loss"][0]
            value = model.evaluate(tf.data.Dataset.from_tensors(batch()), verbose=0)
            results.append((loss, value, model.get_weights()))
        for loss, value, weights in results[1:]:
            np.testing.assert_allclose([loss, value], results[0][:2], rtol=1e-5)
            for a, b in zip(weights, results[0][2]):
                np.testing.assert_allclose(a, b, atol=1e-6)
        print("equal")
        """
    )
    path = tmp_path / "replicas.py"
    path.write_text(program)
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, str(path), folder], capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr[-3000:]
