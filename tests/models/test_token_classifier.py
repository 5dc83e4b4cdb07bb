import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, TFBertForTokenClassification
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.layers.crf import CRF, log_likelihood, marginals
from tfllm.models.backbones import create_backbone
from tfllm.models.checkpoint_files import read_weights
from tfllm.models.entities import find_entities
from tfllm.models.tag_scheme import allowed_tags
from tfllm.models.text_words import Words
from tfllm.models.token_classifier import TokenClassifier
from tfllm.text import Preprocessor, WordPiece, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def bert_config(**changes) -> BertConfig:
    return BertConfig(
        **{
            "vocab_size": 120,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 24,
            "initializer_range": 0.5,
        }
        | changes
    )


def new_model(config: BertConfig | None = None, **arguments) -> TokenClassifier:
    keras.utils.set_random_seed(2)
    model = TokenClassifier(
        create_backbone(config or bert_config()), **{"labels": LABELS} | arguments
    )
    for number, weight in enumerate(model.classifier.weights):
        weight.assign(tf.random.normal(weight.shape, seed=number))
    if model.crf is not None:
        for number, weight in enumerate(model.crf.weights):
            weight.assign(tf.random.normal(weight.shape, stddev=1 / 64, seed=number))
    return model


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本 , . ( )"] * 2, 120)


def ids_of(tokenizer: WordPiece, text: str) -> list[int]:
    return tokenizer.fast.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module", params=[False, True], ids=["softmax", "crf"])
def model(request) -> TokenClassifier:
    return new_model(crf=request.param)


@pytest.fixture(scope="module")
def served(model, tokenizer):
    return model.signatures(Preprocessor(tokenizer, sequence_length=12))["serving_default"]


def batch(rows: int = 3, tokens: int = 9):
    """Features, legal tags, weights; the last row has no word."""
    rng = np.random.default_rng(4)
    ids = rng.integers(5, 120, (rows, tokens)).astype(np.int32)
    mask = (np.arange(tokens) < np.array([[tokens], [6], [3]])[:rows]).astype(np.int32)
    starts = np.zeros_like(ids)
    starts[0, [1, 3, 4, 7]] = starts[1, [2, 4]] = 1
    tags = np.zeros_like(ids)
    tags[0, [1, 3, 4, 7]], tags[1, [2, 4]] = [1, 2, 0, 3], [0, 3]
    features = {"input_ids": ids, "attention_mask": mask, "word_starts": starts}
    return features, tags, starts.astype(np.float32)


# ------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.0, 3.0, 0.0)])
def test_the_loss_is_the_words_cross_entropy(class_weights):
    model = new_model(class_weights=class_weights)
    features, tags, weights = batch()
    loss, weight = model.loss_sum_and_weight(features, tags, weights, training=False)
    shares = tf.nn.log_softmax(model(features)).numpy()
    of_class = np.array(class_weights or [1.0] * 5)
    expected = count = 0.0
    for row, token in np.argwhere(weights):
        tag = tags[row, token]
        expected -= of_class[tag] * shares[row, token, tag]
        count += of_class[tag]
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == count


def test_the_crfs_loss_is_that_of_rows_of_words_by_their_number():
    model = new_model(crf=True)
    features, tags, weights = batch()
    logits = model(features).numpy()
    first, second = logits[:1, [1, 3, 4, 7]], logits[1:2, [2, 4]]
    chain = model.crf.chain()
    rows = [
        log_likelihood(chain, first, [[1, 2, 0, 3]], [4]),
        log_likelihood(chain, second, [[0, 3]], [2]),
    ]
    loss, weight = model.loss_sum_and_weight(features, tags, weights, training=False)
    assert float(loss) == pytest.approx(-sum(float(r[0]) for r in rows), rel=1e-4)
    assert float(weight) == 6.0
    loss, weight = model.loss_sum_and_weight(
        features, tags, weights * [[0.0], [2.0], [1.0]], training=False
    )
    assert float(loss) == pytest.approx(-2 * float(rows[1][0]), rel=1e-4)
    assert float(weight) == 4.0


def test_a_window_that_begins_within_an_entity_costs_no_fortune():
    model = new_model(crf=True)
    features, tags, weights = batch(rows=2)
    tags[0, 1], tags[0, 3] = 4, 4  # I-LOC from the first word on
    loss, _ = model.loss_sum_and_weight(features, tags, weights, training=False)
    assert 0.0 < float(loss) < 1e3
    # Its start is no evidence: the starts' scores don't change its loss.
    model.crf.weights[1].assign_add([0.1, -0.2, 0.3, 0.1, 0.2])
    only_first = weights * [[1.0], [0.0]]
    before = model.loss_sum_and_weight(features, tags, only_first, training=False)[0]
    model.crf.weights[1].assign_add([0.3, 0.2, -0.3, 0.1, 0.5])
    after = model.loss_sum_and_weight(features, tags, only_first, training=False)[0]
    assert float(before) == float(after)


@pytest.mark.parametrize("crf", [False, True])
def test_a_batch_without_words_weighs_nothing(crf):
    features, tags, weights = batch()
    loss, weight = new_model(crf=crf).loss_sum_and_weight(
        features, tags, 0.0 * weights, training=True
    )
    assert float(loss) == float(weight) == 0.0


def test_dropout_is_a_function_of_the_seed():
    model = new_model(bert_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    config = bert_config(classifier_dropout=0.5)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    dropped = new_model(config)

    def loss(model, seed):
        seed = tf.constant([1, seed], tf.int64)
        return float(model.loss_sum_and_weight(*batch(), training=True, dropout_seed=seed)[0])

    assert loss(dropped, 3) == loss(dropped, 3) != loss(dropped, 4)
    assert loss(model, 3) == loss(model, 4)


@pytest.mark.parametrize("crf", [False, True])
def test_fit_learns_by_heart(crf):
    keras.utils.set_random_seed(0)
    config = bert_config(hidden_size=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = TokenClassifier(create_backbone(config), labels=LABELS, crf=crf)
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(batch()).repeat()
    losses = model.fit(data, verbose=0, epochs=2, steps_per_epoch=25).history["loss"]
    features, tags, weights = batch()
    assert model.test_on_batch(features, tags, weights) < 0.1 * losses[0]
    found = model.decode(model(features), features)["tags"].numpy()
    np.testing.assert_array_equal(found[weights > 0], tags[weights > 0])
    if crf:
        assert np.abs(model.crf.tensors()["transitions"]).max() > 0.1


# ----------------------------------------------------------------------------------- decode


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_no_tags_are_illegal_and_none_depends_on_padding(model, seed):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 2, (3, 7)).astype(np.int32)
    logits = (5 * rng.normal(size=(3, 7, 5))).astype(np.float32)
    found = model.decode(tf.constant(logits), {"word_starts": starts})
    tags, scores = found["tags"].numpy(), found["scores"].numpy()
    assert ((tags >= 0) == (starts == 1)).all() and ((scores > 0) == (starts == 1)).all()
    for row in tags:
        before = "O"
        for label in (LABELS[tag] for tag in row if tag >= 0):
            assert not label.startswith("I-") or before[1:] == label[1:]
            before = label
    wide = np.pad(logits, [[0, 2], [0, 3], [0, 0]], constant_values=9.0)
    more = model.decode(tf.constant(wide), {"word_starts": np.pad(starts, [[0, 2], [0, 3]])})
    np.testing.assert_array_equal(more["tags"][:3, :7], tags)
    np.testing.assert_allclose(more["scores"][:3, :7], scores, atol=1e-6)


def test_scores_are_probabilities():
    features, _, _ = batch()
    starts = features["word_starts"] == 1
    for scheme in ("iob2", None):
        model = new_model(scheme=scheme)
        logits = model(features)
        found = model.decode(logits, features)
        shares = tf.nn.softmax(logits).numpy()
        chosen = np.take_along_axis(shares, np.maximum(found["tags"], 0)[..., None], -1)[..., 0]
        np.testing.assert_allclose(found["scores"][starts], chosen[starts], atol=1e-6)
    np.testing.assert_array_equal(found["tags"][starts], shares.argmax(-1)[starts])
    model = new_model(crf=True)
    found = model.decode(logits, features)
    wanted = marginals(model.crf.chain(), logits.numpy()[1:2, [2, 4]], [2]).numpy()[0]
    tags = found["tags"].numpy()[1, [2, 4]]
    np.testing.assert_allclose(found["scores"].numpy()[1, [2, 4]], wanted[[0, 1], tags], atol=1e-5)


def test_predict_gives_rows(model):
    features, _, _ = batch()
    model.compile("adam")
    found = model.predict(features, verbose=0)
    np.testing.assert_array_equal(found["tags"], model.decode(model(features), features)["tags"])
    with pytest.raises(ValueError, match="word_starts.*Received: input_ids"):
        model.decode(model(features), {"input_ids": features["input_ids"]})


# --------------------------------------------------------------------------------- entities


def test_entities_are_joined_words():
    text = "Kim Lee of New York City met Bo Å."
    parts = text.split()
    starts = [text.encode().index(part.encode()) for part in parts]
    ends = [start + len(part.encode()) for start, part in zip(starts, parts, strict=True)]
    tags = [1, 2, 0, 4, 4, 3, 0, 1, 3]  # I-LOC begins one where nothing of the kind precedes
    scores = [0.9, 0.7, 1.0, 0.5, 0.7, 0.8, 1.0, 0.6, 0.4]
    words = Words(*(tf.constant(part) for part in ([1] * 9, list(range(9)), starts, ends)))
    found = find_entities(
        tf.constant(["", text, "x"]), words, tf.constant(tags), tf.constant(scores), LABELS
    )
    found = {name: values.numpy() for name, values in found.items()}
    names = [name.decode() for name in found["entity"][1]]
    assert names == ["Kim Lee", "New York", "City", "Bo", "Å."]
    assert found["label"][1].tolist() == [b"PER", b"LOC", b"LOC", b"PER", b"LOC"]
    assert found["start"][1].tolist() == [0, 11, 20, 29, 32]
    assert found["end"][1].tolist() == [7, 19, 24, 31, 35]
    np.testing.assert_allclose(found["score"][1], [0.8, 0.6, 0.8, 0.6, 0.4], atol=1e-6)
    for row in (0, 2):
        assert set(found["entity"][row]) == set(found["label"][row]) == {b""}
        assert set(found["start"][row]) == set(found["end"][row]) == {-1}
        assert not found["score"][row].any()


def test_each_word_with_a_part_of_speech_is_its_own():
    words = Words(*(tf.constant(part) for part in ([0, 0], [0, 1], [0, 4], [3, 8])))
    tags, scores = tf.constant([0, 0]), tf.constant([1.0, 1.0])
    found = find_entities(tf.constant(["all cats"]), words, tags, scores, ("NOUN", "VERB"))
    assert found["entity"].numpy().tolist() == [[b"all", b"cats"]]
    assert found["label"].numpy().tolist() == [[b"NOUN", b"NOUN"]]


def test_what_iob2_allows():
    allowed = allowed_tags(LABELS, "iob2")
    illegal = {(a, b) for a, b in np.argwhere(~allowed.transitions)}
    assert illegal == {(0, 2), (0, 4), (1, 4), (2, 4), (3, 2), (4, 2)}
    assert allowed.starts.tolist() == [True, True, False, True, False] and allowed.ends.all()


# ---------------------------------------------------------------------------------- serving

texts = st.lists(
    st.lists(st.sampled_from([*WORDS.split(), ",", "(", "日本", "\n", "zz"]), max_size=30).map(
        " ".join
    ),
    min_size=2,
    max_size=4,
)


@settings(max_examples=8)
@given(texts=texts)
def test_an_answer_is_the_same_whatever_is_beside_it(served, texts):
    together = {name: t.numpy() for name, t in served(tf.constant(texts)).items()}
    for row, text in enumerate(texts):
        alone = {name: t.numpy()[0] for name, t in served(tf.constant([text])).items()}
        count = len(alone["start"])
        for name, values in alone.items():
            if name == "score":
                np.testing.assert_allclose(together[name][row][:count], values, atol=1e-5)
            else:
                assert together[name][row][:count].tolist() == values.tolist()
        assert (together["start"][row][count:] == -1).all()


def test_no_texts_have_no_entities(served):
    for values in served(tf.constant([], tf.string)).values():
        assert values.shape == (0, 0)


def test_a_short_text_is_tagged_as_a_batch_of_words_is(model, served, tokenizer):
    text = "the cat, saw the sea"
    ids = tokenizer.fast.encode(text).ids
    starts = [0] + [int(not tokenizer.fast.id_to_token(i).startswith("##")) for i in ids[1:-1]]
    features = {"input_ids": np.array([ids]), "word_starts": np.array([[*starts, 0]])}
    assert len(ids) <= 12
    tags = model.decode(model(features), features)["tags"].numpy()[0]
    labels = [LABELS[tag] for tag in tags if tag >= 0]
    assert len(labels) == 6
    wanted = [label[2:] for label in labels if label.startswith("B-")]
    assert [x.decode() for x in served(tf.constant([text]))["label"].numpy()[0]] == wanted


def test_long_documents_take_each_token_from_its_window(tokenizer):
    parts = ("NOUN", "VERB", "ADP", "DET", "ADJ")
    model = new_model(labels=parts, scheme=None)
    preprocess = Preprocessor(tokenizer, sequence_length=12)  # room for 10, 4 shared, 6 new
    served = model.signatures(preprocess, overlap=4)["serving_default"]
    words = [w for w in (WORDS + " cat dog sea").split() if len(ids_of(tokenizer, w)) == 1]
    words = (words * 3)[:27]
    ids = ids_of(tokenizer, " ".join(words))
    assert len(ids) == 27
    wanted = []
    for place in range(27):
        window = min(max(place - 2, 0) // 6, 3)
        span = ids[window * 6 : window * 6 + 10]
        row = np.array([[tokenizer.cls_id, *span, tokenizer.sep_id]])
        wanted.append(parts[int(np.argmax(model(row)[0, 1 + place - window * 6]))])
    found = {k: v.numpy()[0] for k, v in served(tf.constant([" ".join(words)])).items()}
    assert [word.decode() for word in found["entity"]] == words
    assert [label.decode() for label in found["label"]] == wanted
    assert len(set(wanted)) > 1


def test_the_bundle_passes_the_gate(tokenizer, tmp_path):
    model = new_model(crf=True)
    preprocess = Preprocessor(tokenizer, sequence_length=16)
    version = export_bundle(
        model.signatures(preprocess),
        tmp_path,
        "tags",
        modules=[model, preprocess],
        probes=model.probes(),
    )
    assert version.name == "1"


def test_windows_without_room_are_refused(tokenizer):
    preprocess = Preprocessor(tokenizer, sequence_length=12)
    with pytest.raises(InputError, match="less than the 10 tokens.*Received: 10"):
        new_model().signatures(preprocess, overlap=10)


# ---------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("crf", [False, True])
def test_a_saved_folder_loads_back(tmp_path, crf):
    model = new_model(crf=crf)
    model.save_pretrained(tmp_path / "model")
    again = TokenClassifier.from_pretrained(tmp_path / "model")
    assert again.labels == LABELS and again.scheme == "iob2" and (again.crf is not None) == crf
    features, _, _ = batch()
    np.testing.assert_array_equal(again(features), model(features))
    for name, values in model.decode(model(features), features).items():
        np.testing.assert_array_equal(again.decode(again(features), features)[name], values)
    if crf:
        for part, scores in model.crf.tensors().items():
            np.testing.assert_array_equal(again.crf.tensors()[part], scores)
        plain = TokenClassifier.from_pretrained(tmp_path / "model", crf=False)
        np.testing.assert_array_equal(plain(features), model(features))
    made = TokenClassifier.from_config(model.get_config())
    assert made.labels == LABELS and (made.crf is not None) == crf


def test_a_saved_folder_is_what_transformers_loads(tmp_path):
    model = new_model(crf=True)
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    tensors = read_weights(tmp_path / "model")
    ours = {name: tensors.pop(name) for name in list(tensors) if name.startswith("crf.")}
    assert set(ours) == {"crf.transitions", "crf.starts", "crf.ends"}
    theirs = TFBertForTokenClassification(BertConfig(**config))
    theirs.build_in_name_scope()
    load_pytorch_state_dict_in_tf2_model(theirs, tensors, allow_missing_keys=False)
    features, _, _ = batch()
    ids, mask = features["input_ids"], features["attention_mask"]
    logits = theirs(ids, attention_mask=mask).logits.numpy()
    found = model(features).numpy()
    np.testing.assert_allclose(found[mask == 1], logits[mask == 1], atol=1e-5)


def test_a_head_of_another_program_gets_no_scheme(tmp_path):
    new_model().save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if not k.startswith("tfllm")}))
    assert TokenClassifier.from_pretrained(tmp_path / "model").scheme is None
    assert TokenClassifier.from_pretrained(tmp_path / "model", scheme="iob2").scheme == "iob2"
    with pytest.raises(InputError, match="holds a token classifier of O, B-PER.*are A, B"):
        TokenClassifier.from_pretrained(tmp_path / "model", labels=["A", "B"])
    path.write_text(json.dumps(config | {"id2label": {"0": "O", "1": "B-X"}}))
    with pytest.raises(InputError, match="they don't fit its 2 labels: classifier"):
        TokenClassifier.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"labels": ("O",)}, "at least 2 tags. Received: O"),
        ({"labels": ("O", "B-X", "B-X")}, "'B-X' more than once"),
        ({"labels": ("O", "")}, "labels must be names"),
        ({"labels": ("O", "NOUN")}, "one label is 'NOUN'.*scheme=None"),
        ({"labels": ("O", "I-X")}, "'I-X' without 'B-X'"),
        ({"scheme": "bioes"}, "must be 'iob2' or None. Received: 'bioes'"),
        ({"class_weights": [1.0]}, "for each of the 5 tags. Received: \\[1.0\\]"),
        ({"class_weights": [1.0] * 5, "crf": True}, "a CRF's loss is of whole rows"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        new_model(**arguments)


def test_all_weights_learn():
    model = new_model(crf=True)
    assert isinstance(model.crf, CRF)
    with tf.GradientTape() as tape:
        loss, _ = model.loss_sum_and_weight(*batch(), training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert not [
        v.name for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None
    ]
