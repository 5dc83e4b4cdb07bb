"""Training adapters: what learns, what stays, what a resume repeats, what is served."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm.export import export_bundle
from tfllm.models import CausalLM
from tfllm.models.adapter_files import load_adapters, save_adapters
from tfllm.models.lora import adapters_of, apply_lora, merge_lora
from tfllm.optimization import adamw
from tfllm.text import train_byte_level_bpe
from tfllm.training.checkpoints import Checkpoints

TARGETS = ["c_attn", "c_proj", "c_fc"]


def batches(count: int, words: int = 23, rows: int = 4) -> tf.data.Dataset:
    """Rows that count upwards from anywhere, another length of them weighing in each row."""
    rng = np.random.default_rng(0)
    ids = (rng.integers(0, words, (count, rows, 1)) + np.arange(9)) % words
    weights = (np.arange(8) < rng.integers(2, 9, (count, rows, 1))).astype(np.float32)
    ids = ids.astype(np.int32)
    features = {"input_ids": ids[..., :-1]}
    return tf.data.Dataset.from_tensor_slices((features, ids[..., 1:], weights))


@pytest.fixture
def config(tiny_config: GPT2Config) -> GPT2Config:
    tiny_config.n_layer, tiny_config.n_embd, tiny_config.tie_word_embeddings = 1, 16, False
    return tiny_config


def wrapped(config: GPT2Config) -> CausalLM:
    keras.utils.set_random_seed(1)
    model = CausalLM.from_config(config)
    # A frozen head of a new model's tiny numbers could say nothing.
    rng = np.random.default_rng(2)
    for variable in model.weights:
        variable.assign_add(0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    apply_lora(model, rank=4, alpha=16, targets=TARGETS, dropout=0.1)
    return model


def compiled(config: GPT2Config) -> CausalLM:
    model = wrapped(config)
    optimizer = adamw(0.02, model.trainable_variables, weight_decay=0.01)
    model.compile(optimizer, accumulate_steps=2)
    return model


def test_it_learns_and_leaves_the_base_to_the_bit(config):
    model = compiled(config)
    before = [(v, v.numpy()) for v in model.non_trainable_weights]
    losses = model.fit(batches(60), verbose=0, epochs=4).history["loss"]
    assert losses[-1] < 0.85 * losses[0]
    assert len(before) == 2 + 12 + 2 + 1
    for variable, start in before:
        np.testing.assert_array_equal(variable, start)
    features, _, _ = next(iter(batches(1)))
    adapted = model(features).numpy()
    merge_lora(model)
    assert np.abs(model(features) - adapted).max() <= 1e-5 * np.abs(adapted).max()


def test_a_resumed_run_ends_bit_for_bit_the_same(config, tmp_path):
    whole = compiled(config)
    whole.fit(batches(6).take(3), verbose=0)
    Checkpoints(tmp_path, whole).save({})
    whole.fit(batches(6).skip(3), verbose=0)

    resumed = compiled(config)
    assert Checkpoints(tmp_path, resumed).restore_latest() is not None
    resumed.fit(batches(6).skip(3), verbose=0)
    assert int(resumed.optimizer.iterations) == 6
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision(config, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = wrapped(config)
        optimizer = keras.optimizers.Adam(0.02)
        if policy == "mixed_float16":
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        model.compile(optimizer)
        losses = model.fit(batches(60), verbose=0, epochs=4).history["loss"]
        assert losses[-1] < 0.85 * losses[0]
        assert {v.dtype for v in model.weights} == {tf.float32}
        features, _, _ = next(iter(batches(1)))
        adapted = model(features).numpy()
        kernels = [(projection, layer.merged_kernel()) for projection, layer in adapters_of(model)]
        merge_lora(model)
        for projection, kernel in kernels:
            np.testing.assert_array_equal(projection.layer.weight, kernel)
        # The products are rounded to half precision in other places.
        assert np.abs(model(features) - adapted).max() <= 0.05 * np.abs(adapted).max()
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_mirrored_variables(config, tmp_path):
    """On one device; two need a process of their own."""
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model, other = wrapped(config), wrapped(config)
    layer = adapters_of(model)[0].layer
    assert isinstance(layer.lora_b, tf.distribute.DistributedValues)
    layer.lora_b.assign(tf.ones(layer.lora_b.shape))
    save_adapters(model, tmp_path / "a")
    load_adapters(other, tmp_path / "a")
    features, _, _ = next(iter(batches(1)))
    adapted = model(features).numpy()
    np.testing.assert_array_equal(other(features), adapted)
    merge_lora(model)
    assert np.abs(model(features) - adapted).max() <= 1e-5 * np.abs(adapted).max()


MIRRORED = textwrap.dedent(
    """
    import sys
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    sys.path.insert(0, sys.argv[1])
    from test_lora_training import TARGETS, batches
    from transformers import GPT2Config
    from tfllm.models import CausalLM
    from tfllm.models.lora import adapters_of, apply_lora, merge_lora

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [logical] * 2)
    config = GPT2Config(
        vocab_size=23, n_positions=8, n_embd=8, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )
    start = CausalLM.from_config(config).get_weights()

    def run(strategy):
        with strategy.scope():
            model = CausalLM.from_config(config)
            model.set_weights(start)
            apply_lora(model, rank=2, alpha=8, targets=TARGETS, seed=3)
            model.compile(keras.optimizers.SGD(0.5))
        model.fit(batches(5), verbose=0)
        learnt = [layer.lora_b.numpy() for _, layer in adapters_of(model)]
        merge_lora(model)
        return [*learnt, *model.get_weights()]

    one = run(tf.distribute.get_strategy())
    two = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    print(max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)))
    print(max(np.abs(b).max() for b in two[:8]))
    """
)


@pytest.mark.slow
def test_two_replicas_equal_one(tmp_path):
    """In a process of its own: logical devices must be made before TensorFlow starts."""
    (tmp_path / "program.py").write_text(MIRRORED)
    command = [sys.executable, str(tmp_path / "program.py"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    apart, learnt = map(float, done.stdout.split())
    assert apart <= 1e-5 and learnt > 1e-3


@pytest.mark.slow
def test_a_merged_model_is_exported(tmp_path):
    tokenizer = train_byte_level_bpe(["to be or not to be"] * 4, 262)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=16, n_embd=8, n_layer=2, n_head=2
    )
    model = compiled(config)
    model.fit(batches(3, tokenizer.vocabulary_size), verbose=0)
    merge_lora(model)
    signatures = model.signatures(tokenizer, max_new_tokens=4)
    version = export_bundle(
        signatures, tmp_path, "lora", modules=[model, tokenizer], probes=model.probes()
    )
    names = [name for name, _ in tf.train.list_variables(str(version / "variables" / "variables"))]
    assert names and not any("lora" in name for name in names)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    prompts = tf.constant(["to be", "or", ""])
    ours = signatures["serving_default"](prompts)["text"]
    assert served(text=prompts)["text"].numpy().tolist() == ours.numpy().tolist()
