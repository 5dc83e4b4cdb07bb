import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from transformers import BertConfig, GPT2Config, TFAutoModel

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models.backbones import create_backbone
from tfllm.models.text_embedder import TextEmbedder
from tfllm.serving import Session
from tfllm.text import Preprocessor, WordPiece, train_byte_level_bpe, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本"] * 2, 120)


@pytest.fixture(scope="module")
def model() -> TextEmbedder:
    tf.keras.utils.set_random_seed(1)
    config = BertConfig(
        vocab_size=120,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    return TextEmbedder(create_backbone(config))


def of_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_vectors_are_the_normalised_mean_of_transformers_states(model):
    ids = np.array([[2, 7, 9, 3], [2, 8, 3, 0]], np.int32)
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int32)
    states = model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
    wanted = np.stack([states[0].mean(axis=0), states[1, :3].mean(axis=0)])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    features = {"input_ids": ids, "attention_mask": mask}
    np.testing.assert_allclose(model.embed(features), wanted, atol=1e-5)
    np.testing.assert_array_equal(model(features), model.embed(features))
    np.testing.assert_array_equal(model.predict_step((features,))["vector"], model(features))


def test_without_normalising(model):
    raw = TextEmbedder(model.backbone, pooling="first", normalise=False)
    ids = np.array([[2, 7, 9, 3]], np.int32)
    states = model.backbone(input_ids=ids).last_hidden_state
    np.testing.assert_allclose(raw({"input_ids": ids}), states[:, 0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_saved_folder_loads_back(model, tokenizer, tmp_path, pooling, normalise):
    model = TextEmbedder(model.backbone, pooling=pooling, normalise=normalise)
    model.save_pretrained(tmp_path / "m", tokenizer)
    again = TextEmbedder.from_pretrained(tmp_path / "m")
    assert (again.pooling, again.normalise) == (pooling, normalise)
    ids = np.array([[2, 7, 9, 3]], np.int32)
    np.testing.assert_array_equal(again(ids), model(ids))
    other = TextEmbedder.from_pretrained(tmp_path / "m", pooling="mean", normalise=True)
    assert (other.pooling, other.normalise) == ("mean", True)


def test_a_saved_folder_is_one_of_sentence_transformers(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "m", tokenizer, sequence_length=16)
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert [step["type"].rpartition(".")[2] for step in modules] == [
        "Transformer",
        "Pooling",
        "Normalize",
    ]
    assert [step["path"] for step in modules] == ["", "1_Pooling", "2_Normalize"]
    assert json.loads((tmp_path / "m" / "1_Pooling" / "config.json").read_text()) == {
        "word_embedding_dimension": 8,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
        "pooling_mode_max_tokens": False,
    }
    limit = json.loads((tmp_path / "m" / "sentence_bert_config.json").read_text())
    assert limit["max_seq_length"] == 16
    # Names without a prefix are those of PyTorch's AutoModel.
    assert "embeddings.word_embeddings.weight" in load_file(tmp_path / "m" / "model.safetensors")
    ids = np.array([[2, 7, 9, 3]], np.int32)
    assert TFAutoModel.from_config(model.config)(input_ids=ids).last_hidden_state.shape == [1, 4, 8]


def test_a_folder_without_these_files_is_pooled_by_mean(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "modules.json").unlink()
    (tmp_path / "m" / "1_Pooling" / "config.json").unlink()
    again = TextEmbedder.from_pretrained(tmp_path / "m")
    assert (again.pooling, again.normalise) == ("mean", True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", '[{"type": "sentence_transformers.models.Dense"}]', "step .*Dense"),
        ("modules.json", "{", "can't be read as JSON"),
        ("modules.json", "{}", "must hold a list. Received: dict"),
        ("modules.json", '[{"type": "a.Pooling", "path": "9"}]', "names 9/config.json, which is"),
        ("1_Pooling/config.json", "{}", "asks for no pooling"),
        (
            "1_Pooling/config.json",
            '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}',
            "asks for pooling_mode_cls_token and pooling_mode_max_tokens",
        ),
    ],
)
def test_steps_that_are_not_done_are_refused(model, tmp_path, file, content, message):
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / file).write_text(content)
    with pytest.raises(InputError, match=message):
        TextEmbedder.from_pretrained(tmp_path / "m")


def test_nothing_is_overwritten(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    before = of_files(tmp_path)
    with pytest.raises(InputError, match="exists already"):
        model.save_pretrained(tmp_path / "m")
    assert of_files(tmp_path) == before


def test_a_configuration_makes_the_same_kind_of_model(model):
    first = TextEmbedder(model.backbone, pooling="max", normalise=False)
    again = TextEmbedder.from_config(first.get_config())
    assert (again.pooling, again.normalise) == ("max", False)
    assert [w.shape for w in again.weights] == [w.shape for w in first.weights]
    assert TextEmbedder.from_config(model.config).pooling == "mean"


def test_an_unknown_pooling_is_refused(model):
    with pytest.raises(InputError, match="Received: 'cls'"):
        TextEmbedder(model.backbone, pooling="cls")


@pytest.mark.slow
def test_served_vectors(model, tokenizer, tmp_path):
    preprocess = Preprocessor(tokenizer, sequence_length=16)
    served = model.signatures(preprocess)
    folder = export_bundle(
        served, tmp_path, "tiny", modules=[model, preprocess], probes=model.probes()
    )
    with Session(folder) as session:
        assert set(session.signatures) == {"serving_default", "tokens", "tokenize"}
        assert str(session.signatures["serving_default"].outputs["vector"].shape) == "(None, 8)"
        features = session.run("tokenize", {"text": ["the cat sat", "sea"]})
        vectors = session.run("tokens", features)["vector"]
        direct = session.run("serving_default", {"text": ["the cat sat", "sea"]})["vector"]
    np.testing.assert_allclose(vectors, direct, atol=1e-6)
    wanted = model(
        {"input_ids": features["input_ids"], "attention_mask": features["attention_mask"]}
    )
    np.testing.assert_allclose(direct, wanted, atol=1e-6)


@pytest.fixture(scope="module")
def embed(model, tokenizer):
    return model.signatures(Preprocessor(tokenizer, sequence_length=16))["serving_default"]


@given(
    texts=st.lists(st.text(max_size=20) | st.sampled_from(WORDS.split()), min_size=2, max_size=5)
)
@settings(max_examples=20)
def test_the_same_alone_and_beside_others(model, tokenizer, embed, texts):
    together = embed(tf.constant(texts))["vector"]
    features = Preprocessor(tokenizer, sequence_length=16)(texts)
    np.testing.assert_allclose(together, model(features), atol=1e-5)
    alone = [embed(tf.constant([text]))["vector"][0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_empty_texts_of_a_tokenizer_without_special_tokens():
    tokenizer = train_byte_level_bpe([WORDS] * 3, 280)
    config = GPT2Config(vocab_size=280, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    model = TextEmbedder.from_config(config, pooling="last")
    embed = model.signatures(Preprocessor(tokenizer, sequence_length=16))["serving_default"]
    alone = embed(tf.constant([""]))["vector"]
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-5)
    together = embed(tf.constant(["the cat", ""]))["vector"]
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "length", "message"),
    [
        ({"vocab_size": 50}, 16, "has 120 words and the model 50"),
        ({}, 25, "must be at most 24, which is what the backbone can read. Received: 25"),
    ],
)
def test_a_preprocessor_of_another_model_is_refused(model, tokenizer, change, length, message):
    config = BertConfig.from_dict(model.config.to_dict() | change)
    other = TextEmbedder.from_config(config)
    words = tokenizer.vocabulary_size
    with pytest.raises(InputError, match=message.replace("120", str(words))):
        other.signatures(Preprocessor(tokenizer, sequence_length=length))


def test_it_can_be_called_under_mixed_precision(model):
    """Keras hands `call` its variables in half precision, and a training step does not."""
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = TextEmbedder(create_backbone(model.config))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    half.set_weights(model.get_weights())
    features = {"input_ids": tf.constant([[2, 7, 9, 3]])}
    vectors = half(features)
    assert vectors.dtype == tf.float32
    np.testing.assert_allclose(vectors, model(features), atol=0.1)
