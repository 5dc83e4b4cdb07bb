"""A query against the documents of the batch: the loss by hand, what is no negative, two towers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig

from tfllm.errors import InputError
from tfllm.models import DualEncoder, TextEmbedder
from tfllm.text import Preprocessor, train_wordpiece

SIZES = {
    "vocab_size": 60,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "initializer_range": 0.5,
    "hidden_dropout_prob": 0.1,
}
QUERIES = np.array([[2, 5, 9, 3], [2, 8, 3, 0], [2, 7, 7, 3]])
DOCUMENTS = np.array(
    [
        [[2, 5, 11, 3, 0], [2, 21, 22, 23, 3]],
        [[2, 12, 3, 0, 0], [2, 31, 3, 0, 0]],
        [[2, 13, 14, 3, 0], [2, 41, 42, 3, 0]],
    ]
)
ROWS = np.array([[0, 1], [2, 3], [4, 5]])
NOTHING_MORE = np.full([3, 1], -1)


def new_tower(seed: int = 0) -> TextEmbedder:
    keras.utils.set_random_seed(seed)
    return TextEmbedder.from_config(BertConfig(**SIZES))


def features_of(rows=ROWS, relevant=NOTHING_MORE, documents=DOCUMENTS):
    found = {"query_input_ids": QUERIES, "document_input_ids": documents}
    found |= {name.replace("input_ids", "attention_mask"): ids > 0 for name, ids in found.items()}
    found |= {"document_rows": rows, "relevant_rows": relevant}
    return {name: tf.constant(values, tf.int32) for name, values in found.items()}


def losses_by_hand(model, negatives, temperature):
    """The loss of each query, from its vector's cosine with what is named, in float64."""
    vectors = {name: np.float64(v) for name, v in model(features_of()).items()}
    documents = vectors["document"].reshape(6, 8)
    losses = []
    for row, others in enumerate(negatives):
        scores = documents @ vectors["query"][row] / temperature
        own = scores[2 * row]
        losses.append(np.log(np.exp(own) + np.exp(scores[others]).sum()) - own)
    return np.array(losses)


def loss_of(model, weights=(1.0, 1.0, 1.0), **how):
    batch = (features_of(**how), tf.zeros([3], tf.int32), tf.constant(weights))
    found = model.loss_sum_and_weight(*batch, training=False)
    return [float(value) for value in found]


ALL = [[1, 2, 3, 4, 5], [0, 1, 3, 4, 5], [0, 1, 2, 3, 5]]


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_loss_by_hand(temperature):
    model = DualEncoder(new_tower(), temperature=temperature)
    loss, weight = loss_of(model)
    assert loss == pytest.approx(losses_by_hand(model, ALL, temperature).sum(), rel=1e-5)
    assert weight == 3.0


def test_documents_that_answer_a_query_are_no_negatives():
    model = DualEncoder(new_tower(), temperature=0.3)
    # The first query's list names documents 4 and 3; the third's own document stands in row one.
    relevant = np.array([[0, 4, 3], [2, -1, -1], [4, -1, -1]])
    wanted = losses_by_hand(model, [[1, 2, 5], ALL[1], ALL[2]], 0.3)
    assert loss_of(model, relevant=relevant)[0] == pytest.approx(wanted.sum(), rel=1e-5)
    rows = np.array([[0, 4], [2, 3], [4, 5]])
    documents = DOCUMENTS.copy()
    wanted = losses_by_hand(model, [ALL[0], ALL[1], [0, 2, 3, 5]], 0.3)
    assert loss_of(model, rows=rows, documents=documents)[0] == pytest.approx(
        wanted.sum(), rel=1e-5
    )


def test_documents_that_score_above_the_right_one_are_no_negatives():
    model = DualEncoder(new_tower(), temperature=0.3, false_negative_margin=0.01)
    vectors = model(features_of())
    scores = np.float64(vectors["query"]) @ np.float64(vectors["document"]).reshape(6, 8).T
    kept = [
        [place for place in places if scores[row, place] <= scores[row, 2 * row] + 0.01]
        for row, places in enumerate(ALL)
    ]
    assert kept != ALL and any(kept)
    assert loss_of(model)[0] == pytest.approx(losses_by_hand(model, kept, 0.3).sum(), rel=1e-5)


def test_rows_without_weight_are_no_negatives_either():
    model = DualEncoder(new_tower(), temperature=0.3)
    loss, weight = loss_of(model, weights=(1.0, 0.0, 0.5))
    wanted = losses_by_hand(model, [[1, 4, 5], [], [0, 1, 5]], 0.3)
    assert loss == pytest.approx(wanted @ [1.0, 0.0, 0.5], rel=1e-5) and weight == 1.5
    assert loss_of(model, weights=(0.0, 0.0, 0.0)) == [0.0, 0.0]


def test_gradients_are_finite_where_nothing_is_a_negative():
    model = DualEncoder(new_tower(), false_negative_margin=-3.0)  # masks everything
    features = features_of()
    with tf.GradientTape() as tape:
        loss, _ = model.loss_sum_and_weight(
            features, tf.zeros([3], tf.int32), tf.ones([3]), training=True,
            dropout_seed=tf.constant([1, 2], tf.int64),
        )  # fmt: skip
    assert float(loss) == 0.0
    gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
    assert not any(np.any(tf.convert_to_tensor(gradient)) for gradient in gradients)


def test_a_step_brings_queries_nearer():
    model = DualEncoder(new_tower(), seed=3)
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors((features_of(), tf.zeros([3], tf.int32)))
    history = model.fit(data.repeat(20), epochs=2, steps_per_epoch=10, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_dropout_follows_from_its_seed():
    model = DualEncoder(new_tower())
    features = features_of(documents=np.repeat(np.pad(QUERIES, [(0, 0), (0, 1)])[:, None], 2, 1))

    def drawn(*seed):
        seed = tf.constant(seed, tf.int64)
        return model._vectors(features, training=True, dropout_seed=seed)

    one, again, other = drawn(1, 2), drawn(1, 2), drawn(1, 3)
    np.testing.assert_array_equal(one["query"], again["query"])
    assert np.abs(one["query"] - other["query"]).max() > 1e-3
    # Documents that are the queries themselves lose other activations.
    assert np.abs(one["query"] - one["document"][:, 0]).max() > 1e-3


def test_two_towers_train_apart_and_are_saved_apart(tmp_path):
    tokenizer = train_wordpiece(["the cat sat on the mat", "a dog saw the sea"] * 2, 60)
    new_tower().save_pretrained(tmp_path / "one", tokenizer)
    model = DualEncoder.from_pretrained(tmp_path / "one", towers="two")
    assert list(model.towers) == ["query", "document"]
    one = sum(int(tf.size(weight)) for weight in model.query.weights)
    assert model.count_params() == 2 * one
    for tower, other in (("query", "document"), ("document", "query")):
        before = model(features_of())
        for weight in model.towers[tower].weights:
            weight.assign(weight * 1.5)
        after = model(features_of())
        assert np.abs(after[tower] - before[tower]).max() > 1e-3
        np.testing.assert_array_equal(after[other], before[other])
    model.query.weights[0].assign(-model.query.weights[0])
    model.save_pretrained(tmp_path / "two", tokenizer)
    again = DualEncoder.from_pretrained(tmp_path / "two", towers="two")
    for name, vectors in model(features_of()).items():
        np.testing.assert_allclose(again(features_of())[name], vectors, atol=1e-6)
    functions = again.signatures(Preprocessor(tokenizer, sequence_length=12))
    assert list(functions) == ["serving_default", "query", "document"]
    assert functions["serving_default"] is functions["query"] is not functions["document"]
    with pytest.raises(InputError, match="holds two towers, which can't be shared"):
        DualEncoder.from_pretrained(tmp_path / "two")


def test_two_random_towers_begin_alike():
    model = DualEncoder.from_config(BertConfig(**SIZES), towers="two", temperature=0.1)
    assert [*model.towers] == ["query", "document"] and model.temperature == 0.1
    for one, other in zip(model.query.weights, model.document.weights, strict=True):
        assert one is not other
        np.testing.assert_array_equal(one, other)
    assert [*DualEncoder.from_config(BertConfig(**SIZES)).towers] == ["shared"]
    with pytest.raises(InputError, match="towers must be shared or two. Received: three"):
        DualEncoder.from_config(BertConfig(**SIZES), towers="three")


def test_a_shared_tower_is_one_model(tmp_path):
    tokenizer = train_wordpiece(["the cat sat on the mat"] * 2, 60)
    model = DualEncoder(new_tower())
    assert model.count_params() == model.query.count_params() and [*model.towers] == ["shared"]
    model.save_pretrained(tmp_path / "model", tokenizer)
    again = TextEmbedder.from_pretrained(tmp_path / "model")
    features = {"input_ids": QUERIES, "attention_mask": QUERIES > 0}
    np.testing.assert_allclose(again(features), model.query(features), atol=1e-6)
    functions = model.signatures(Preprocessor(tokenizer, sequence_length=12))
    assert list(functions) == ["serving_default", "tokens", "tokenize"]
    assert list(model.probes()) == ["tokens"]


def test_what_can_t_be_trained():
    model = DualEncoder(new_tower())
    with pytest.raises(InputError, match="--accumulate_steps must be 1 here: .* Received: 2"):
        model.compile("adam", accumulate_steps=2)
    with pytest.raises(InputError, match="temperature must be above 0. Received: 0"):
        DualEncoder(new_tower(), temperature=0.0)
    other = TextEmbedder.from_config(BertConfig(**SIZES | {"hidden_size": 4}))
    with pytest.raises(InputError, match="vectors of 8 numbers and documents of 4"):
        DualEncoder(new_tower(), other)
    with pytest.raises(InputError, match="towers must be shared or two"):
        DualEncoder.from_pretrained("x", towers="three")
