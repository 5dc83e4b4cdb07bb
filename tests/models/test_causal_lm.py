import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import AutoTokenizer, GPT2Config

from tfllm.errors import InputError
from tfllm.models import CausalLM


def batch(rows: int = 4, length: int = 6) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 23, (rows, length + 1)).astype(np.int32)
    weights = np.ones((rows, length), np.float32)
    weights[0, 2:] = 0.0
    return {"input_ids": ids[:, :-1]}, ids[:, 1:], weights


def test_the_loss_is_the_weighted_sum_of_cross_entropies(tiny_model):
    features, targets, weights = batch()
    loss, weight = tiny_model.loss_sum_and_weight(features, targets, weights, training=False)
    shares = tf.nn.log_softmax(tiny_model(features)).numpy()
    expected = -np.take_along_axis(shares, targets[..., None], axis=-1)[..., 0] * weights
    assert float(loss) == pytest.approx(expected.sum(), rel=1e-5)
    assert float(weight) == 20.0


def test_fit_learns_one_batch_by_heart(tiny_config):
    config = GPT2Config(**tiny_config.to_dict() | {"resid_pdrop": 0.0, "n_embd": 16})
    model = CausalLM.from_config(config)
    model.compile(keras.optimizers.Adam(0.02))
    data = tf.data.Dataset.from_tensors(batch()).repeat(120)
    losses = model.fit(data, verbose=0, epochs=4, steps_per_epoch=30).history["loss"]
    assert losses[0] > 1.0 and losses[-1] < 0.3
    assert model.evaluate(data.take(1), verbose=0) < 0.2


def test_fit_with_a_keras_loss_and_metric(tiny_model):
    tiny_model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    features, targets, _ = batch()
    history = tiny_model.fit(features, targets, epochs=2, verbose=0)
    assert set(history.history) == {"loss", "accuracy"}
    loss, accuracy = tiny_model.evaluate(features, targets, verbose=0)
    assert loss > 0.0 and 0.0 <= accuracy <= 1.0


def test_metrics_without_a_keras_loss_are_refused(tiny_model):
    with pytest.raises(ValueError, match="need a Keras loss"):
        tiny_model.compile("adam", metrics=["accuracy"])
    with pytest.raises(ValueError, match="leave `loss` out"):
        tiny_model.compile("adam", loss="mse", accumulate_steps=2)


def test_unknown_features_are_refused(tiny_model):
    with pytest.raises(ValueError, match="Received: attention_masks, input_ids"):
        tiny_model({"input_ids": [[1]], "attention_masks": [[1]]})


def test_one_weight_for_a_row(tiny_model):
    features, targets, _ = batch()
    rows = np.array([1.0, 0.0, 2.0, 0.5], np.float32)
    tiny_model.compile(keras.optimizers.SGD(0.0))
    logs = tiny_model.train_on_batch(features, targets, rows, return_dict=True)
    wide = np.repeat(rows[:, None], 6, axis=1)
    again = tiny_model.test_on_batch(features, targets, wide, return_dict=True)
    assert logs["loss"] > 0 and again["loss"] > 0


def test_a_row_longer_than_the_positions_is_refused(tiny_model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than the backbone's"):
        tiny_model(tf.ones([1, 25], tf.int32))


def test_mixed_bfloat16_is_close_to_float32(tiny_config):
    ids = tf.constant([[1, 2, 3, 4, 5]])
    wanted = CausalLM.from_config(tiny_config)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = CausalLM.from_config(tiny_config)
        model.set_weights(wanted.get_weights())
        logits = model(ids)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert logits.dtype == tf.float32
    assert 0 < np.abs(logits - wanted(ids)).max() < 0.02


def test_predict_gives_what_comes_next(tiny_model):
    ids = np.array([[1, 2, 3, 0], [4, 5, 6, 7]], np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32)
    tiny_model.compile("adam")
    given = tiny_model.predict({"input_ids": ids, "attention_mask": mask}, verbose=0)
    np.testing.assert_allclose(given[0], tiny_model(ids[:1, :3])[0, -1], atol=1e-5)
    np.testing.assert_allclose(given[1], tiny_model(ids[1:])[0, -1], atol=1e-5)
    np.testing.assert_allclose(tiny_model.predict(ids, verbose=0)[1], given[1], atol=1e-5)


def test_summary_and_weights_are_the_models_own(tiny_model, tmp_path):
    tiny_model.compile("adam")
    lines: list[str] = []
    tiny_model.summary(print_fn=lines.append)
    # wte 23·8 + wpe 24·8 + 2 blocks + ln_f
    block = 2 * 16 + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8)
    assert f"Total params: {23 * 8 + 24 * 8 + 2 * block + 16}" in "\n".join(lines)
    tiny_model.save_weights(tmp_path / "weights.h5")
    other = CausalLM.from_config(tiny_model.config)
    other.load_weights(tmp_path / "weights.h5")
    ids = tf.constant([[1, 2, 3]])
    np.testing.assert_array_equal(other(ids), tiny_model(ids))


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_folder_loads_back(tmp_path, tied):
    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, tie_word_embeddings=tied
    )
    model = CausalLM.from_config(config)
    model.save_pretrained(tmp_path / "model")
    again = CausalLM.from_pretrained(tmp_path / "model")
    ids = tf.constant([[1, 2, 3]])
    np.testing.assert_array_equal(again(ids), model(ids))
    assert (again.lm_head is None) == tied


def test_a_saved_folder_loads_in_pytorch(tiny_model, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from transformers import GPT2LMHeadModel

    tiny_model.save_pretrained(tmp_path / "model")
    theirs, report = GPT2LMHeadModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = [[1, 2, 3, 4]]
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(tiny_model(tf.constant(ids)), logits, atol=1e-5)


def test_saved_names_and_shapes_are_pytorchs(tiny_model, tmp_path):
    from safetensors import safe_open

    tiny_model.save_pretrained(tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    assert shapes["transformer.wte.weight"] == (23, 8)
    assert shapes["transformer.h.1.attn.c_attn.weight"] == (8, 24)
    assert shapes["transformer.h.1.attn.c_attn.bias"] == (24,)
    assert shapes["transformer.ln_f.bias"] == (8,)
    assert len(shapes) == 2 + 2 * 12 + 2 and "lm_head.weight" not in shapes
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"] and config["model_type"] == "gpt2"


def test_names_without_prefix_and_masks_of_old_checkpoints_load(tiny_model, tmp_path):
    from safetensors.numpy import load_file, save_file

    tiny_model.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
    tensors["h.0.attn.bias"] = np.ones((1, 1, 24, 24), np.float32)
    save_file(tensors, path)
    ids = tf.constant([[1, 2, 3]])
    np.testing.assert_array_equal(
        CausalLM.from_pretrained(tmp_path / "model")(ids), tiny_model(ids)
    )


def test_nothing_is_overwritten(tiny_model, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        tiny_model.save_pretrained(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    tiny_model.save_pretrained(tmp_path / "model", overwrite=True)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}


class TestBadFolders:
    def test_no_weights(self, tiny_model, tmp_path):
        tiny_model.save_pretrained(tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
        with pytest.raises(InputError, match="holds no weights.*pickles"):
            CausalLM.from_pretrained(tmp_path / "m")

    def test_another_architecture(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(InputError, match="type 'bert'.*needs 'gpt2'"):
            CausalLM.from_pretrained(tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError, match="there is no folder"):
            CausalLM.from_pretrained(tmp_path / "missing")

    def test_damaged_weights(self, tiny_model, tmp_path):
        tiny_model.save_pretrained(tmp_path / "m")
        path = tmp_path / "m" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match="can't be read as safetensors"):
            CausalLM.from_pretrained(tmp_path / "m")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n_layer": 3}, "lacks 12 of 40 weights"),
            ({"n_layer": 1}, "no weights of this GPT-2"),
            ({"n_positions": 12}, r"shape \[24, 8\].*asks for \[12, 8\]"),
        ],
    )
    def test_a_configuration_of_other_weights(self, tiny_model, tmp_path, change, message):
        tiny_model.save_pretrained(tmp_path / "m")
        path = tmp_path / "m" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(InputError, match=message):
            CausalLM.from_pretrained(tmp_path / "m")


def test_half_precision_weights_load(tiny_model, tmp_path):
    import safetensors.tensorflow

    tiny_model.save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors = safetensors.tensorflow.load_file(str(path))
    halves = {name: tf.cast(tensor, tf.bfloat16) for name, tensor in tensors.items()}
    safetensors.tensorflow.save_file(halves, str(path))
    again = CausalLM.from_pretrained(tmp_path / "m")
    wanted = tf.cast(tf.cast(tiny_model._word_embeddings(), tf.bfloat16), tf.float32)
    np.testing.assert_array_equal(again._word_embeddings(), wanted)


def test_text_signatures(tiny_model, tmp_path):
    from tfllm.text import train_byte_level_bpe

    tokenizer = train_byte_level_bpe(["to be or not to be"] * 4, 262)
    model = CausalLM.from_config(
        GPT2Config(vocab_size=262, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    )
    served = model.signatures(tokenizer, max_new_tokens=6)
    texts = tf.constant(["to be", "", "or not " * 30])
    together = served["serving_default"](texts)["text"].numpy()
    alone = [served["serving_default"](texts[i : i + 1])["text"].numpy()[0] for i in range(3)]
    assert together.tolist() == alone
    settings = ([0, 3, 99], [0.0] * 3, [0] * 3, [1.0] * 3, [1] * 3, [[""]] * 3)
    asked = served["generate"](texts, *settings)
    assert asked["text"].numpy()[0] == b""
    assert asked["text"].numpy()[2] == together[2]
    with pytest.raises(InputError, match="do not belong together"):
        tiny_model.signatures(tokenizer)
    model.save_pretrained(tmp_path / "m", tokenizer)
    assert AutoTokenizer.from_pretrained(tmp_path / "m")("to be").input_ids


@pytest.mark.parametrize("tied", [True, False])
def test_another_vocabulary_on_the_same_blocks(tiny_config, tied):
    tiny_config.tie_word_embeddings = tied
    model = CausalLM.from_config(tiny_config)
    sources = [[i] for i in range(23)] + [[3, 7], [5]]
    grown = model.with_vocabulary(sources)
    before = model(tf.constant([[1, 2, 3]])).numpy()
    after = grown(tf.constant([[1, 2, 3]])).numpy()
    np.testing.assert_allclose(after[..., :23], before, atol=1e-6)
    # A row that is the mean of two gives the mean of their logits.
    np.testing.assert_allclose(after[..., 23], before[..., [3, 7]].mean(-1), atol=1e-6)
    np.testing.assert_array_equal(grown(tf.constant([[24]])), grown(tf.constant([[5]])))
    assert model.config.vocab_size == 23 and grown.config.vocab_size == 25


def test_words_without_a_source_look_like_the_others(tiny_config):
    model = CausalLM.from_config(tiny_config)
    fresh = model.with_vocabulary([[]] * 400).backbone.transformer.wte.embeddings.numpy()
    table = model.backbone.transformer.wte.embeddings.numpy()
    np.testing.assert_allclose(fresh.std(0), table.std(0), rtol=0.25)
    assert len(np.unique(fresh[:, 0])) == 400
    with pytest.raises(InputError, match="sources name the word 23, and this model has 23"):
        model.with_vocabulary([[23]])
