"""Masked pretraining's loss: several objectives in one step, each divided by its own weight."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import BertConfig

from tfllm.errors import InputError
from tfllm.models import MaskedLM
from tfllm.training.mean_objectives import MeanObjectives
from tfllm.training.step_guard import StepGuard
from tfllm.training.tensorboard import TensorBoardLog

OBJECTIVES = {"masked_lm": 1.0, "next_sentence": 0.5}
CONFIG = BertConfig(
    vocab_size=30,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=8,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.5,
)


def batch(seed: int = 0, rows: int = 8) -> tuple[dict, dict, dict]:
    """Rows of one to three masks, a third without a pair; the last two have no weight at all."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(8) < rng.integers(4, 9, [rows, 1])).astype(np.int32)
    features = {
        "input_ids": rng.integers(1, 30, [rows, 8]).astype(np.int32) * mask,
        "attention_mask": mask,
        "token_type_ids": (np.arange(8) > 3).astype(np.int32) * mask,
        "masked_positions": rng.integers(0, 4, [rows, 3]).astype(np.int32),
    }
    targets = {
        "masked_lm": rng.integers(0, 30, [rows, 3]).astype(np.int32),
        "next_sentence": rng.integers(0, 2, rows).astype(np.int32),
    }
    weights = {
        "masked_lm": (np.arange(3) < rng.integers(1, 4, [rows, 1])).astype(np.float32),
        "next_sentence": rng.choice([0.0, 1.0, 2.0], rows).astype(np.float32),
    }
    for weight in weights.values():
        weight[rows - 2 :] = 0.0
    return features, targets, weights


def model_of(objectives=OBJECTIVES) -> MaskedLM:
    keras.utils.set_random_seed(0)
    return MaskedLM.from_config(CONFIG, objectives=objectives)


def plain_loss(model: MaskedLM, features, targets, weights) -> dict[str, tf.Tensor]:
    """The same by logits of all words and TensorFlow's own losses."""
    logits = {"masked_lm": model(features), "next_sentence": model.pair_logits(features)}
    found = {}
    for name, scores in logits.items():
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets[name], scores)
        right = tf.cast(tf.argmax(scores, -1, tf.int32) == targets[name], tf.float32)
        total = max(1.0, weights[name].sum())
        found[f"{name}_loss"] = tf.reduce_sum(losses * weights[name]) / total
        found[f"{name}_accuracy"] = tf.reduce_sum(right * weights[name]) / total
    found["loss"] = sum(share * found[f"{o}_loss"] for o, share in OBJECTIVES.items())
    return found


def gradients_of(model: MaskedLM, data, parts: int) -> tuple[dict, np.ndarray]:
    """A step's logs, and the gradients that its optimizer got."""
    model.compile(keras.optimizers.SGD(1.0), accumulate_steps=parts, run_eagerly=True)
    before = model.get_weights()
    logs = model.train_on_batch(*data, return_dict=True)
    after = model.get_weights()
    model.set_weights(before)
    return logs, np.concatenate([(b - a).ravel() for a, b in zip(after, before, strict=True)])


def test_the_loss_is_the_sum_of_means():
    model, data = model_of(), batch()
    with tf.GradientTape() as tape:
        expected = plain_loss(model, *data)
    slopes = tape.gradient(expected["loss"], model.trainable_variables)
    logs, _ = gradients_of(model, data, 1)
    for name, value in expected.items():
        assert logs["step_loss" if name == "loss" else name] == pytest.approx(
            float(value), rel=1e-5
        )
    norm = float(tf.linalg.global_norm([tf.convert_to_tensor(slope) for slope in slopes]))
    assert logs["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert logs["padding"] == pytest.approx((data[0]["attention_mask"] == 0).mean())


@pytest.fixture(scope="module")
def steps():
    """One traced gradient for each number of micro-batches."""
    found = {}
    for parts in (1, 2, 4):
        model = model_of()
        model.compile(keras.optimizers.SGD(1.0), accumulate_steps=parts)

        def sums(batch, model=model):
            weight_of = model._objective_weights(batch[2])
            return model._accumulate(batch, model.trainable_variables, weight_of)

        found[parts] = tf.function(sums, autograph=False)
    return found


@given(
    seed=st.integers(0, 10_000),
    without=st.sampled_from(["", "masked_lm", "next_sentence"]),
    empty_rows=st.integers(0, 8),
)
@settings(max_examples=25)
def test_micro_batches_equal_one_batch(steps, seed, without, empty_rows):
    features, targets, weights = batch(seed)
    for name, weight in weights.items():
        weight[:empty_rows] = 0.0
        if name == without:
            weight[:] = 0.0
    data = tf.nest.map_structure(tf.constant, (features, targets, weights))
    whole, slopes = steps[1](data)
    slopes = flat(slopes)
    assert np.isfinite(slopes).all() and np.isfinite(whole["loss"])
    norm = np.linalg.norm(slopes)
    for parts in (2, 4):
        sums, found = steps[parts](data)
        assert np.linalg.norm(flat(found) - slopes) <= 1e-6 * norm
        for name, value in whole.items():
            np.testing.assert_allclose(sums[name], value, rtol=1e-5)


def flat(slopes) -> np.ndarray:
    return np.concatenate([tf.convert_to_tensor(g).numpy().ravel() for g in slopes])


def test_an_objective_without_weight_adds_nothing():
    features, targets, weights = batch()
    weights["next_sentence"][:] = 0.0
    both, alone = model_of(), model_of(("masked_lm", "next_sentence"))
    logs, slopes = gradients_of(both, (features, targets, weights), 2)
    assert logs["next_sentence_loss"] == 0.0 and logs["next_sentence_accuracy"] == 0.0
    assert logs["step_loss"] == pytest.approx(logs["masked_lm_loss"])
    _, expected = gradients_of(alone, (features, targets, weights), 1)
    np.testing.assert_allclose(slopes, expected, atol=1e-6)
    weights["masked_lm"][:] = 0.0
    logs, slopes = gradients_of(both, (features, targets, weights), 1)
    assert not slopes.any() and logs["step_loss"] == 0.0 and logs["skipped"] == 0


def test_evaluating_gives_means_over_all_batches():
    model = model_of()
    model.compile("sgd")
    parts = [batch(1), batch(2, rows=4)]
    data = parts[0]
    for features, targets, weights in parts[1:]:
        data = tf.nest.map_structure(
            lambda a, b: np.concatenate([a, b]), data, (features, targets, weights)
        )
    expected = plain_loss(model, *data)

    def rows():
        yield from parts

    spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), (parts[0]))
    batches = tf.data.Dataset.from_generator(rows, output_signature=spec)
    found = model.evaluate(batches, return_dict=True, verbose=0)
    assert {*found} == {*expected}
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5), name

    class Batches:
        steps_per_epoch = 2

        def signature(self):
            return spec

        def batch(self, step):
            return parts[step]

    measured = MeanObjectives(model, Batches()).measure()
    assert {*measured} == {*expected}
    for name, value in expected.items():
        assert measured[name] == pytest.approx(float(value), rel=1e-5), name


def test_only_places_with_weight_are_seen():
    model, (features, targets, weights) = model_of(), batch()
    found = model.objective_sums(features, targets, weights, training=False)
    targets["masked_lm"] = np.where(weights["masked_lm"] > 0, targets["masked_lm"], 10**6)
    features["masked_positions"] = np.where(
        weights["masked_lm"] > 0, features["masked_positions"], 0
    )
    again = model.objective_sums(features, targets, weights, training=False)
    for name, sums in found.items():
        np.testing.assert_array_equal(sums, again[name])


def test_masked_words_alone():
    model, (features, targets, weights) = model_of(("masked_lm",)), batch()
    targets, weights = {"masked_lm": targets["masked_lm"]}, {"masked_lm": weights["masked_lm"]}
    loss, weight = model.loss_sum_and_weight(features, targets, weights, training=False)
    logs, _ = gradients_of(model, (features, targets, weights), 1)
    assert logs["step_loss"] == pytest.approx(float(loss / weight), rel=1e-5)
    assert logs["masked_lm_loss"] == pytest.approx(logs["step_loss"])
    with pytest.raises(ValueError, match="must be dictionaries with masked_lm"):
        model.train_on_batch(features, targets["masked_lm"], weights["masked_lm"])


def test_all_tokens_may_be_targets():
    model, (features, _, _) = model_of(("masked_lm",)), batch()
    positions = features.pop("masked_positions")
    ids = np.random.default_rng(0).integers(0, 30, [8, 8]).astype(np.int32)
    weights = np.zeros([8, 8], np.float32)
    weights[:, 2] = 1.0
    whole = model.objective_sums(
        features, {"masked_lm": ids}, {"masked_lm": weights}, training=False
    )
    slots = features | {"masked_positions": np.full_like(positions, 2)}
    chosen = model.objective_sums(
        slots,
        {"masked_lm": np.repeat(ids[:, 2:3], 3, axis=1)},
        {"masked_lm": np.eye(3, dtype=np.float32)[[0] * 8]},
        training=False,
    )
    np.testing.assert_allclose(whole["masked_lm"], chosen["masked_lm"], rtol=1e-6)


def test_mixed_float16_learns():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = model_of()
        model.compile(keras.optimizers.Adam(0.01), accumulate_steps=2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    data = tf.data.Dataset.from_tensors(batch()).repeat(30)
    losses = model.fit(data, verbose=0, epochs=2, steps_per_epoch=15).history["loss"]
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_steps_compiled_with_xla_are_the_same():
    data, found = batch(), []
    for xla in (False, True):
        model = model_of()
        model.compile(keras.optimizers.SGD(0.5), accumulate_steps=2, jit_compile=xla)
        logs = model.fit(tf.data.Dataset.from_tensors(data).repeat(3), verbose=0).history
        found.append([logs["loss"][0], *model.get_weights()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


REPLICAS = textwrap.dedent(
    """
    import json, sys
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    sys.path.insert(0, sys.argv[1])
    from test_masked_lm_training import batch, model_of

    cpu = tf.config.list_physical_devices("CPU")[0]
    config = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [config] * 2)
    features, targets, weights = batch(3)
    weights["next_sentence"][:4] = 0.0  # the first replica has no pair
    data = tf.data.Dataset.from_tensors((features, targets, weights))

    def run(strategy, parts):
        with strategy.scope():
            model = model_of()
            model.compile(keras.optimizers.SGD(1.0), accumulate_steps=parts)
        before, logs = model.get_weights(), {}
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda _, found: logs.update(found)
        )
        # A batch of the data set is the global one, of which each replica takes its rows.
        model.fit(data.unbatch().batch(8), verbose=0, callbacks=[note])
        slopes = [b - a for a, b in zip(model.get_weights(), before)]
        return logs, np.concatenate([s.ravel() for s in slopes])

    logs, slopes = run(tf.distribute.get_strategy(), 1)
    found_logs, found = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), 2)
    for name, value in logs.items():
        np.testing.assert_allclose(found_logs[name], value, rtol=1e-5, err_msg=name)
    print(np.linalg.norm(found - slopes) / np.linalg.norm(slopes))
    """
)


@pytest.mark.slow
def test_replicas_equal_one_device(tmp_path):
    # In a process of its own: logical devices must be made before TensorFlow starts.
    (tmp_path / "program.py").write_text(REPLICAS)
    command = [sys.executable, str(tmp_path / "program.py"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.splitlines()[-1]) <= 1e-6


def test_curves_of_each_objective(tmp_path):
    model = model_of()
    model.compile(keras.optimizers.SGD(0.1))
    log = TensorBoardLog(tmp_path, tokens_per_step=64, every=1)
    data = tf.data.Dataset.from_tensors(batch()).repeat(2)
    logs = model.fit(data, verbose=0, callbacks=[log]).history
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0})
    events.Reload()
    for objective in OBJECTIVES:
        for end in ("loss", "accuracy"):
            points = events.Tensors(f"{objective}_{end}")
            assert [point.step for point in points] == [1, 2]
            value = float(tf.make_ndarray(points[-1].tensor_proto))
            assert value == pytest.approx(logs[f"{objective}_{end}"][-1])
    assert "skipped_in_a_row" not in events.Tags()["tensors"]


def test_a_bad_batch_is_saved_without_pickles(tmp_path):
    model, (features, targets, weights) = model_of(), batch()
    weights["next_sentence"][0] = np.nan

    def batches(first, steps):
        return tf.data.Dataset.from_tensors((features, targets, weights)).repeat(steps)

    model.compile(keras.optimizers.SGD(0.1))
    guard = StepGuard(batches, tmp_path, most_in_a_row=2, every=1)
    with pytest.raises(InputError, match="training ended at step 2"):
        model.fit(batches(0, 3), verbose=0, callbacks=[guard])
    with np.load(tmp_path / "bad-batch-step-2.npz", allow_pickle=False) as saved:
        assert np.isnan(saved["weights_next_sentence"][0])
        np.testing.assert_array_equal(saved["targets_masked_lm"], targets["masked_lm"])
