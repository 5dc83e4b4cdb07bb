import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import BertConfig, TFBertForQuestionAnswering
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models.answer_spans import best_spans
from tfllm.models.backbones import create_backbone, save_folder
from tfllm.models.checkpoint_files import read_weights
from tfllm.models.question_answerer import QuestionAnswerer
from tfllm.models.question_windows import cut_contexts, frame_of_pair
from tfllm.text import Preprocessor, WordPiece, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"


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


def new_model(config: BertConfig | None = None, **arguments) -> QuestionAnswerer:
    keras.utils.set_random_seed(2)
    model = QuestionAnswerer(create_backbone(config or bert_config()), **arguments)
    for number, weight in enumerate(model.qa_outputs.weights):
        weight.assign(tf.random.normal(weight.shape, seed=number))
    return model


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本 , . ( ) ?"] * 2, 120)


@pytest.fixture(scope="module")
def model() -> QuestionAnswerer:
    return new_model(max_answer_tokens=4)


@pytest.fixture(scope="module")
def served(model, tokenizer):
    preprocess = Preprocessor(tokenizer, sequence_length=20)
    return model.signatures(preprocess, overlap=4, max_question_tokens=6)["serving_default"]


def batch(rows: int = 3, tokens: int = 9):
    rng = np.random.default_rng(4)
    ids = rng.integers(5, 120, (rows, tokens)).astype(np.int32)
    mask = (np.arange(tokens) < np.array([[tokens], [7], [6]])[:rows]).astype(np.int32)
    context = mask * (np.arange(tokens) > 3)
    context[range(rows), mask.sum(1) - 1] = 0
    features = {"input_ids": ids, "attention_mask": mask, "context_mask": context.astype(np.int32)}
    return features, np.array([[4, 6], [5, 5], [0, 0]], np.int32), np.ones(rows, np.float32)


# ------------------------------------------------------------------------------------- loss


def test_the_loss_is_that_of_starts_and_ends_over_real_tokens(model):
    features, spans, _ = batch()
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    loss, weight = model.loss_sum_and_weight(features, spans, weights, training=False)
    logits = model(features).numpy()
    expected = 0.0
    for row, real in enumerate(features["attention_mask"].sum(1)):
        shares = tf.nn.log_softmax(logits[row, :real], axis=0).numpy()
        expected -= weights[row] * (shares[spans[row, 0], 0] + shares[spans[row, 1], 1])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == 7.0
    wide = np.tile(weights[:, None], [1, 2])  # as the training step gives them
    again = model.loss_sum_and_weight(features, spans, wide, training=False)
    assert [float(x) for x in again] == [float(loss), 7.0]


def test_fit_learns_by_heart():
    keras.utils.set_random_seed(0)
    config = bert_config(hidden_size=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = QuestionAnswerer(create_backbone(config))
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(batch()).repeat()
    losses = model.fit(data, verbose=0, epochs=2, steps_per_epoch=25).history["loss"]
    features, spans, weights = batch()
    assert model.test_on_batch(features, spans, weights) < 0.1 * losses[0]
    found = model.predict(features, verbose=0)
    assert list(zip(found["start"], found["end"], strict=True))[:2] == [(4, 6), (5, 5)]
    assert found["no_answer_score"][2] > found["score"][2]
    assert (found["no_answer_score"] < found["score"])[:2].all()


def test_all_weights_learn(model):
    with tf.GradientTape() as tape:
        loss, _ = model.loss_sum_and_weight(*batch(), training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    names = [v.name for v in model.trainable_variables]
    assert not [n for n, g in zip(names, gradients, strict=True) if g is None]


# ------------------------------------------------------------------------------------ spans


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 3),
    tokens=st.integers(1, 9),
    longest=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_best_span_is_that_of_a_search_through_all(seed, rows, tokens, longest, share):
    rng = np.random.default_rng(seed)
    # Whole numbers, so that there are ties.
    logits = rng.integers(-3, 4, (rows, tokens, 2)).astype(np.float32)
    context = rng.random((rows, tokens)) < share
    found = best_spans(tf.constant(logits), tf.constant(context), longest)
    for row in range(rows):
        spans = [
            (logits[row, i, 0] + logits[row, j, 1], i, j)
            for i in range(tokens)
            for j in range(i, min(tokens, i + longest))
            if context[row, i] and context[row, j]
        ]
        score, start, end = max(spans, key=lambda s: s[0], default=(logits[row, 0].sum(), 0, 0))
        got = tuple(float(part[row]) for part in found)
        assert got == (start, end, score)


def test_decode_needs_to_know_the_context(model):
    features, _, _ = batch()
    with pytest.raises(ValueError, match="context_mask.*Received: input_ids"):
        model.decode(model(features), {"input_ids": features["input_ids"]})


# ---------------------------------------------------------------------------------- windows

words = st.sampled_from([*WORDS.split(), ",", "日本", "zz", "seahouse"])


@pytest.fixture(scope="module")
def cut(tokenizer):
    frame = frame_of_pair(Preprocessor(tokenizer, sequence_length=20))
    texts, number = tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)

    @tf.function(input_signature=[texts, texts, number, number], autograph=False)
    def cut(questions, contexts, length, overlap):
        return cut_contexts(
            tokenizer.tokenize(questions)[:, :10],
            tokenizer.tokenize_with_offsets(contexts),
            frame,
            sequence_length=length,
            overlap=overlap,
            pad_id=tokenizer.pad_id,
        )

    return cut


@settings(max_examples=20)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(words, max_size=4).map(" ".join), st.lists(words, max_size=40).map(" ".join)
        ),
        min_size=1,
        max_size=3,
    ),
    length=st.integers(19, 30),
    overlap=st.integers(0, 5),
)
def test_windows_are_hugging_faces(tokenizer, cut, rows, length, overlap):
    questions, contexts = map(list, zip(*rows, strict=True))
    found = cut(tf.constant(questions), tf.constant(contexts), length, overlap)
    fast = tokenizers.Tokenizer.from_str(tokenizer.fast.to_str())
    fast.enable_truncation(length, stride=overlap, strategy="only_second")
    wanted = []
    for row, (question, context) in enumerate(rows):
        # Hugging Face doesn't cut questions: it gets those that are left of them.
        if len(tokenizer.fast.encode(question, add_special_tokens=False)) > 10:
            return
        first = fast.encode(question, context)
        wanted += [(row, context, encoding) for encoding in [first, *first.overflowing]]
    assert found.rows.numpy().tolist() == [row for row, _, _ in wanted]
    width = found.features["input_ids"].shape[1]
    assert width == max(len(encoding) for _, _, encoding in wanted)
    for number, (_, context, encoding) in enumerate(wanted):
        real = len(encoding)
        row = {name: values.numpy()[number] for name, values in found.features.items()}
        assert row["input_ids"][:real].tolist() == encoding.ids
        assert row["token_type_ids"][:real].tolist() == encoding.type_ids
        assert row["attention_mask"].tolist() == [1] * real + [0] * (width - real)
        assert (row["input_ids"][real:] == tokenizer.pad_id).all()
        is_context = [sequence == 1 for sequence in encoding.sequence_ids]
        assert row["context_mask"][:real].tolist() == [int(c) for c in is_context]
        for token, (here, (start, end)) in enumerate(
            zip(is_context, encoding.offsets, strict=True)
        ):
            place = [len(context[:n].encode()) for n in (start, end)] if here else [0, 0]
            assert [int(t[number, token]) for t in (found.starts, found.ends)] == place


# ---------------------------------------------------------------------------------- serving


@settings(max_examples=8)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(words, max_size=8).map(" ".join), st.lists(words, max_size=60).map(" ".join)
        ),
        min_size=2,
        max_size=4,
    )
)
def test_an_answer_is_the_same_whatever_is_beside_it(served, rows):
    questions, contexts = map(list, zip(*rows, strict=True))
    together = {
        k: v.numpy() for k, v in served(tf.constant(questions), tf.constant(contexts)).items()
    }
    for row, (question, context) in enumerate(rows):
        alone = served(tf.constant([question]), tf.constant([context]))
        for name, value in alone.items():
            if name.endswith("score"):
                np.testing.assert_allclose(together[name][row], value[0], atol=1e-5)
            else:
                assert together[name][row] == value[0].numpy()
        start, end = together["start"][row], together["end"][row]
        assert context.encode()[start:end] == together["answer"][row]
        assert bool(end > start) == bool(context)


def test_the_answer_is_the_best_of_all_windows(model, served, tokenizer):
    question, context = "who sat", " ".join(WORDS.split() * 3)
    fast = tokenizers.Tokenizer.from_str(tokenizer.fast.to_str())
    fast.enable_truncation(20, stride=4, strategy="only_second")
    first = fast.encode(question, context)
    found = []
    for encoding in [first, *first.overflowing]:
        features = {
            "input_ids": np.array([encoding.ids]),
            "token_type_ids": np.array([encoding.type_ids]),
            "context_mask": np.array([[int(s == 1) for s in encoding.sequence_ids]]),
        }
        best = {k: v.numpy()[0] for k, v in model.decode(model(features), features).items()}
        start, end = encoding.offsets[best["start"]][0], encoding.offsets[best["end"]][1]
        found.append((best["score"], start, end, best["no_answer_score"]))
    assert len(found) > 3
    score, start, end, _ = max(found, key=lambda f: f[0])
    answer = {
        k: v.numpy()[0] for k, v in served(tf.constant([question]), tf.constant([context])).items()
    }
    assert (answer["start"], answer["end"]) == (start, end)
    assert answer["answer"].decode() == context[start:end]
    assert answer["score"] == pytest.approx(score, abs=1e-5)
    assert answer["no_answer_score"] == pytest.approx(min(f[3] for f in found), abs=1e-5)


def test_an_empty_context_has_the_empty_answer(served):
    found = served(tf.constant(["who sat", ""]), tf.constant(["", " \n "]))
    assert found["answer"].numpy().tolist() == [b"", b""]
    assert found["start"].numpy().tolist() == found["end"].numpy().tolist() == [0, 0]
    np.testing.assert_array_equal(found["score"], found["no_answer_score"])
    assert np.isfinite(found["score"]).all()


def test_the_bundle_passes_the_gate(model, tokenizer, tmp_path):
    preprocess = Preprocessor(tokenizer, sequence_length=20)
    version = export_bundle(
        model.signatures(preprocess, overlap=4, max_question_tokens=6),
        tmp_path,
        "answers",
        modules=[model, preprocess],
        probes=model.probes(),
    )
    assert version.name == "1"


def test_what_does_not_fit_is_refused(model, tokenizer):
    preprocess = Preprocessor(tokenizer, sequence_length=20)
    with pytest.raises(InputError, match="leaves 11 tokens.*question of 6.*overlap 11"):
        model.signatures(preprocess, overlap=11, max_question_tokens=6)
    with pytest.raises(InputError, match="at least 1. Received: 0"):
        new_model(max_answer_tokens=0)
    fast = tokenizers.Tokenizer.from_str(tokenizer.fast.to_str())
    fast.post_processor = processors.TemplateProcessing(
        single="$A", pair="$B:0 [SEP]:0 $A:1", special_tokens=[("[SEP]", tokenizer.sep_id)]
    )
    turned = WordPiece(fast, special_roles=tokenizer.special_roles)
    with pytest.raises(InputError, match="puts a question, then its context"):
        model.signatures(Preprocessor(turned, sequence_length=20), overlap=4, max_question_tokens=6)


# ---------------------------------------------------------------------------------- folders


def test_a_saved_folder_loads_back_and_in_transformers(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    features, _, _ = batch()
    again = QuestionAnswerer.from_pretrained(tmp_path / "model", max_answer_tokens=4)
    np.testing.assert_array_equal(again(features), model(features))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForQuestionAnswering"]
    theirs = TFBertForQuestionAnswering(BertConfig(**config))
    theirs.build_in_name_scope()
    tensors = read_weights(tmp_path / "model")
    load_pytorch_state_dict_in_tf2_model(theirs, tensors, allow_missing_keys=False)
    mask = features["attention_mask"]
    logits = theirs(features["input_ids"], attention_mask=mask)
    wanted = np.stack([logits.start_logits, logits.end_logits], axis=-1)
    np.testing.assert_allclose(model(features).numpy()[mask == 1], wanted[mask == 1], atol=1e-5)
    made = QuestionAnswerer.from_config(model.get_config())
    assert made(features).shape == (3, 9, 2)


def test_weights_that_are_missing_are_told(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    backbone = create_backbone(bert_config())
    save_folder(tmp_path / "bare", backbone, {})
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="lacks the weights qa_outputs"):
        QuestionAnswerer.from_pretrained(tmp_path / "bare")
