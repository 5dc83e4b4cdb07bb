"""The forward pass of each family against transformers' own class."""

import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import (
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    RobertaConfig,
    T5Config,
    XLNetConfig,
)

from tfllm.errors import InputError
from tfllm.models.backbones import create_backbone, hidden_states, traits, word_embeddings


def test_states_equal_transformers(backbone, batch, close):
    for length in (1, 2, 7, 33):
        features = batch(backbone, length)
        theirs = backbone(features, training=False).last_hidden_state
        close(hidden_states(backbone, features), theirs, features["attention_mask"])
        whole = {name: array for name, array in features.items() if name != "attention_mask"}
        whole["input_ids"] = np.maximum(whole["input_ids"], 6)
        close(hidden_states(backbone, whole), backbone(whole, training=False).last_hidden_state)


def test_slopes_outside_training_equal_transformers(backbone, batch, close):
    """As attribution asks for them; `gelu` and attention go other ways then than in training."""
    features = batch(backbone, 7)
    mask = tf.cast(features["attention_mask"], tf.float32)[..., None]
    words = word_embeddings(backbone, features.pop("input_ids"))
    slopes = []
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(words)
        for hidden in (
            hidden_states(backbone, features, inputs_embeds=words),
            backbone(features | {"inputs_embeds": words}, training=False).last_hidden_state,
        ):
            slopes.append(tf.reduce_sum(tf.sin(3.0 * hidden) * mask))
    ours, theirs = (tape.gradient(slope, words) for slope in slopes)
    assert np.abs(theirs).max() > 1e-3
    close(ours, theirs, features["attention_mask"])


@pytest.mark.parametrize("config", ["bert", "roberta", "xlnet"], indirect=True)
def test_a_graph_of_unknown_size_computes_the_same(backbone, batch, close):
    features = batch(backbone, 7)
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in features}
    traced = tf.function(lambda f: hidden_states(backbone, f), input_signature=[spec])
    close(traced(features), hidden_states(backbone, features), features["attention_mask"])
    assert traced(batch(backbone, 2)).shape == [3, 2, 8]


def test_padding_changes_nothing(backbone, batch, close):
    features = batch(backbone, 7, rows=2)
    mask = features["attention_mask"]
    padding = {"input_ids": backbone.config.pad_token_id or 0}
    wide = {
        name: np.pad(array, [[0, 0], [0, 9]], constant_values=padding.get(name, 0))
        for name, array in features.items()
    }
    close(hidden_states(backbone, wide)[:, :7], hidden_states(backbone, features), mask)
    # Nor do the ids that stand there.
    wide["input_ids"] = np.where(wide["attention_mask"] == 1, wide["input_ids"], 11)
    close(hidden_states(backbone, wide)[:, :7], hidden_states(backbone, features), mask)
    row = {name: array[1:, : mask[1].sum()] for name, array in features.items()}
    close(hidden_states(backbone, row)[0], hidden_states(backbone, features)[1, : mask[1].sum()])


def test_packed_texts_equal_each_alone(backbone, batch, close):
    rows = [batch(backbone, length, rows=1) for length in (5, 1, 9)]
    packed = {name: np.concatenate([row[name] for row in rows], axis=1) for name in rows[0]}
    packed["segment_ids"] = np.array([[1] * 5 + [2] + [3] * 9], np.int32)
    alone = np.concatenate([hidden_states(backbone, row) for row in rows], axis=1)
    close(hidden_states(backbone, packed), alone)


def test_embeddings_in_place_of_ids(backbone, batch, close):
    features = batch(backbone, 7)
    words = word_embeddings(backbone, features["input_ids"])
    close(
        hidden_states(backbone, features, inputs_embeds=words),
        hidden_states(backbone, features),
    )
    del features["input_ids"]
    assert np.all(np.isfinite(hidden_states(backbone, features, inputs_embeds=words)))


def test_position_ids_are_read(bert_config, shake, batch, close):
    backbone = create_backbone(bert_config)
    shake(backbone)
    features = batch(backbone, 7)
    features["position_ids"] = np.array([[3, 0, 39, 1, 1, 2, 7]] * 3, np.int32)
    theirs = backbone(features, training=False).last_hidden_state
    close(hidden_states(backbone, features), theirs, features["attention_mask"])


def test_gradients_equal_transformers(backbone, batch):
    features = batch(backbone, 7)
    weights = (
        np.random.default_rng(0).standard_normal([3, 7, 8]) * features["attention_mask"][..., None]
    )

    def gradients(forward) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(forward() * weights)
        found = tape.gradient(
            loss, backbone.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return [tf.convert_to_tensor(g).numpy() for g in found]

    ours = gradients(lambda: hidden_states(backbone, features))
    theirs = gradients(lambda: backbone(features, training=False).last_hidden_state)
    norm = np.sqrt(sum(np.sum(g**2) for g in theirs))
    assert norm > 1.0
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * norm


@pytest.mark.parametrize("config", ["bert", "distilbert", "albert", "xlnet"], indirect=True)
def test_gradients_of_training_equal_those_without_dropout(config, shake, batch):
    """In training other code computes the activation."""
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    backbone = create_backbone(config)
    shake(backbone)
    features = batch(backbone, 7)
    grads = []
    for training in (False, True):
        with tf.GradientTape() as tape:
            states = hidden_states(backbone, features, training=training)
            loss = tf.reduce_sum(states[:, 0] ** 3)
        grads.append(tape.gradient(loss, word_matrix(backbone)))
    ours, theirs = (tf.convert_to_tensor(g).numpy() for g in grads)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def word_matrix(backbone) -> tf.Variable:
    return next(v for v in backbone.trainable_variables if v.shape[0] == 50)


def test_dropout_is_a_function_of_its_seed(backbone, batch):
    features = batch(backbone, 7)

    def states(*seed: int) -> np.ndarray:
        seed = tf.constant(seed, tf.int64)
        return hidden_states(backbone, features, training=True, dropout_seed=seed).numpy()

    np.testing.assert_array_equal(states(1, 2), states(1, 2))
    assert np.abs(states(1, 2) - states(1, 3)).max() > 1e-3
    assert np.abs(states(1, 2) - states(2, 2)).max() > 1e-3
    assert np.abs(states(1, 2) - hidden_states(backbone, features)).max() > 1e-3
    free = [hidden_states(backbone, features, training=True).numpy() for _ in range(2)]
    assert np.abs(free[0] - free[1]).max() > 1e-3


def test_dropout_has_its_rate():
    """Only the embeddings' dropout acts, and nothing of the blocks: they add zeros."""
    config = DistilBertConfig(
        vocab_size=9, dim=64, n_layers=1, n_heads=2, hidden_dim=8, dropout=0.25, attention_dropout=0
    )
    backbone = create_backbone(config)
    block = backbone.distilbert.transformer.layer[0]
    for layer in (block.attention.out_lin, block.ffn.lin2):
        layer.kernel.assign(tf.zeros_like(layer.kernel))
    for norm in (block.sa_layer_norm, block.output_layer_norm):
        norm.epsilon = 1e9  # so large that it divides by nearly the same number everywhere
    ids = tf.zeros([20, 30], tf.int32)
    seed = tf.constant([1, 1], tf.int64)
    states = hidden_states(backbone, {"input_ids": ids}, training=True, dropout_seed=seed)
    # What was dropped is 0 before the norm: all such units of a row have the same number after it.
    row = np.asarray(states).reshape(600, 64)
    dropped = 0
    for numbers in row:
        values, counts = np.unique(numbers, return_counts=True)
        dropped += counts.max() if counts.max() > 1 else 0
    assert dropped / row.size == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("config", ["bert", "distilbert", "xlnet"], indirect=True)
def test_half_precision_stays_near(config, shake, batch):
    plain = create_backbone(config)
    shake(plain)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = create_backbone(config)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    half.set_weights(plain.get_weights())
    features = batch(plain, 7)
    ours, exact = hidden_states(half, features), hidden_states(plain, features)
    assert ours.dtype == tf.bfloat16
    mask = features["attention_mask"].astype(bool)
    difference = np.abs(tf.cast(ours, tf.float32).numpy() - exact.numpy())[mask]
    assert 0 < difference.max() < 0.1 * np.abs(exact.numpy()[mask]).max()


def test_a_row_that_is_too_long_stops(bert_config, batch):
    backbone = create_backbone(bert_config)
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than the backbone's position"):
        hidden_states(backbone, batch(backbone, 41))


def test_roberta_numbers_real_tokens_alone():
    config = RobertaConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=4, max_position_embeddings=9, pad_token_id=1,
    )  # fmt: skip
    backbone = create_backbone(config)
    ids = np.array([[5, 6, 7]], np.int32)
    left = {"input_ids": np.array([[1, 1, 5, 6, 7]]), "attention_mask": np.array([[0, 0, 1, 1, 1]])}
    a = hidden_states(backbone, {"input_ids": ids})
    b = hidden_states(backbone, left)[:, 2:]
    np.testing.assert_allclose(a, b, atol=1e-5)
    positions = {"input_ids": ids, "position_ids": np.array([[2, 3, 4]])}
    np.testing.assert_allclose(a, hidden_states(backbone, positions), atol=1e-6)
    assert traits(backbone).max_tokens == 7


def test_traits(config):
    found = traits(config)
    kind = config.model_type
    assert found == traits(create_backbone(config))
    assert found.hidden_dim == 8
    roberta = kind in ("roberta", "xlm-roberta")
    assert found.max_tokens == (38 if roberta else sys.maxsize if kind == "xlnet" else 40)
    assert found.token_types == (kind in ("bert", "albert", "electra", "xlnet"))
    assert found.causal == (kind == "gpt2")
    assert found.summary == ("last" if kind in ("gpt2", "xlnet") else "first")


@pytest.mark.parametrize("config", ["bert", "gpt2", "xlnet"], indirect=True)
def test_random_weights_follow_the_seed(config):
    first, again, other = [], [], []
    for seed, weights in ((1, first), (1, again), (2, other)):
        keras.utils.set_random_seed(seed)
        weights += create_backbone(config).get_weights()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


def test_no_two_matrices_begin_alike(config):
    """One initializer for all matrices of a block, as in the TF XLNet, draws them all the same."""
    matrices = [w for w in create_backbone(config).get_weights() if np.unique(w).size > 1]
    for i, a in enumerate(matrices):
        for b in matrices[:i]:
            assert a.shape != b.shape or np.any(a != b)


BERT = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (T5Config(), "'t5' are not supported. Known are: bert, .*xlnet"),
        (BertConfig(**BERT | {"num_attention_heads": 3}), "hidden_size=8, num_attention_heads=3"),
        (BertConfig(**BERT, position_embedding_type="relative_key"), "'relative_key' is not"),
        (BertConfig(**BERT, is_decoder=True), "BERT as a decoder"),
        (XLNetConfig(attn_type="uni"), "attn_type='uni', bi_data=False"),
        (GPT2Config(add_cross_attention=True), "add_cross_attention"),
    ],
)
def test_configurations_that_are_not_computed_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        create_backbone(config)
