import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig, GPT2Config, PretrainedConfig

from tfllm.models.attribution import attribute
from tfllm.models.backbones import create_backbone, word_embeddings
from tfllm.models.text_classifier import TextClassifier

SIZES = {"vocab_size": 30, "initializer_range": 0.3}


def bert() -> BertConfig:
    return BertConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
        **SIZES,
    )


def gpt2() -> GPT2Config:
    return GPT2Config(n_positions=12, n_embd=8, n_layer=2, n_head=2, **SIZES)


def new_model(config: PretrainedConfig, **arguments) -> TextClassifier:
    keras.utils.set_random_seed(4)
    arguments = {"labels": ["a", "b", "c"]} | arguments
    model = TextClassifier(create_backbone(config), **arguments)
    for weight in model.head.weights:
        weight.assign(tf.random.normal(weight.shape, seed=3))
    return model


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    return new_model(bert())


FEATURES = {
    "input_ids": np.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
}


def evidence_at(model: TextClassifier, embedded: np.ndarray, target: list[int]) -> np.ndarray:
    return model.evidence(model.forward(FEATURES, inputs_embeds=embedded), target).numpy()


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        (bert(), {}),
        (bert(), {"kind": "multi_label"}),
        (gpt2(), {}),
        (bert(), {"kind": "regression", "labels": ()}),
    ],
)
def test_shares_add_up_to_what_the_row_changes(config, arguments):
    model = new_model(config, **arguments)
    target = [0, 0] if arguments.get("kind") == "regression" else [2, 1]
    found = attribute(model, FEATURES, target, steps=16).numpy()
    assert found.shape == (2, 5) and found.dtype == np.float32
    embedded = word_embeddings(model.backbone, FEATURES["input_ids"]).numpy()
    nothing = np.zeros_like(embedded)
    if model.config.pad_token_id is not None:
        nothing += word_embeddings(model.backbone, [[model.config.pad_token_id]]).numpy()
    wanted = evidence_at(model, embedded, target) - evidence_at(model, nothing, target)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found.sum(axis=1), wanted, atol=1e-4)


def test_padding_gets_nothing_and_changes_nothing(model):
    found = attribute(model, FEATURES, 1, steps=4).numpy()
    np.testing.assert_array_equal(found[1, 3:], 0.0)
    short = {name: values[1:, :3] for name, values in FEATURES.items()}
    alone = attribute(model, short, 1, steps=4)
    np.testing.assert_allclose(found[1, :3], alone[0], atol=1e-5)


def test_one_token_gets_everything(model):
    one = {"input_ids": np.array([[7]], np.int32)}
    found = attribute(model, one, 0, steps=16).numpy()
    with_token = model.evidence(model.forward(one), 0)
    without = model.evidence(model.forward({"input_ids": np.array([[0]], np.int32)}), 0)
    np.testing.assert_allclose(found[0, 0], (with_token - without)[0], atol=1e-4)


def test_in_a_graph_the_same(model):
    explain = tf.function(lambda features, target: attribute(model, features, target, steps=4))
    np.testing.assert_allclose(
        explain(FEATURES, tf.constant([2, 1])),
        attribute(model, FEATURES, [2, 1], steps=4),
        atol=1e-5,
    )


def test_the_padding_token_itself_has_no_share(model):
    padded = {"input_ids": np.array([[2, 0, 3]], np.int32)}
    found = attribute(model, padded, 0, steps=4).numpy()
    assert found[0, 1] == 0.0 and np.abs(found[0, [0, 2]]).min() > 0
