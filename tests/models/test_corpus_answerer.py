import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models import (
    ContextReader,
    CorpusAnswerer,
    CorpusSearch,
    PairRanker,
    QuestionAnswerer,
    TextClassifier,
    TextEmbedder,
)
from tfllm.models.backbones import create_backbone
from tfllm.serving import Session
from tfllm.text import Preprocessor, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"
TEXTS = [
    "the cat sat on the mat",
    "a dog saw the sea and the old house by the sea and the mat and a cat",
    "old mat",
    "日本 the house",
    "",
    "the sea " * 12,
    "a cat",
]
IDS = [f"d{i}" for i in range(len(TEXTS))]
QUESTIONS = ["who sat on the mat", "the old house", "日本", "sea the dog saw by a house and a mat"]


def backbone(seed: int):
    keras.utils.set_random_seed(seed)
    return create_backbone(
        BertConfig(
            vocab_size=120,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=40,
            initializer_range=0.5,
        )
    )


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本"] * 2, 120)


@pytest.fixture(scope="module")
def preprocess(tokenizer):
    return Preprocessor(tokenizer, sequence_length=12)


@pytest.fixture(scope="module")
def search(preprocess):
    embedder = TextEmbedder(backbone(1))
    vectors = embedder.embed(preprocess(TEXTS)).numpy()
    return CorpusSearch(embedder, vectors, ids=IDS, texts=TEXTS, block=3)


@pytest.fixture(scope="module")
def model():
    return QuestionAnswerer(backbone(2), max_answer_tokens=4)


@pytest.fixture(scope="module")
def reader(model, tokenizer):
    pairs = Preprocessor(tokenizer, sequence_length=20)
    return ContextReader(model, pairs, overlap=3, max_question_tokens=6)


@pytest.fixture(scope="module")
def reranker():
    """Of another vocabulary than the reader's."""
    tokenizer = train_wordpiece([WORDS, "日本"] * 2, 60)
    model = TextClassifier(backbone(3), labels=["no", "yes"])
    return PairRanker(model, Preprocessor(tokenizer, sequence_length=14), max_question_tokens=4)


@pytest.fixture(scope="module")
def answerer(search, preprocess, reader, reranker):
    return CorpusAnswerer(
        search, preprocess, reader, reranker=reranker, retrieval_weight=3.0, reranker_weight=0.5
    )


@pytest.fixture(scope="module")
def signatures(answerer):
    return answerer.signatures(k=4, reranked=6)


def step_by_step(answerer, questions, k, reranked):
    """The same in Python: one document after another, through the parts' own functions."""
    reader, ranker = answerer.reader, answerer.reranker
    search = answerer.search.signatures(answerer.preprocess)["search"]
    reading = dict(overlap=3, max_question_tokens=6)
    read = reader.model.signatures(reader.preprocess, **reading)["serving_default"]
    for question in questions:
        found = search([question], [reranked])
        documents = [name.decode() for name in found["ids"][0].numpy()]
        retrieval = dict(zip(documents, found["scores"][0].numpy(), strict=True))
        weighed = {name: evidence(ranker, question, TEXTS[IDS.index(name)]) for name in documents}
        answers = {}
        for name in sorted(documents, key=lambda name: -weighed[name])[:k]:
            text = TEXTS[IDS.index(name)]
            one = {key: value.numpy()[0] for key, value in read([question], [text]).items()}
            margin = one["score"] - one["no_answer_score"]
            score = margin + 3.0 * retrieval[name] + 0.5 * weighed[name] if text else -np.inf
            scores = [score, margin, retrieval[name], weighed[name]]
            answers[name] = (scores, one["answer"], one["start"], one["end"])
        best = max(answers, key=lambda name: answers[name][0][0])
        yield best, *answers[best]


def evidence(ranker, question: str, text: str) -> float:
    """What the re-ranker holds of a pair of at most 14 tokens, 4 of them the question's."""
    tokenizer = ranker.preprocess.tokenizer
    asked, said = (ids.numpy().tolist() for ids in tokenizer.tokenize([question, text]))
    row = [tokenizer.cls_id, *asked[:4], tokenizer.sep_id]
    types = [0] * len(row) + [1] * (min(14, len(row) + len(said) + 1) - len(row))
    row += said[: 13 - len(row)] + [tokenizer.sep_id]
    features = {"input_ids": tf.constant([row]), "token_type_ids": tf.constant([types])}
    return ranker.model.evidence(ranker.model(features), 1).numpy()[0]


def test_the_graph_does_what_the_parts_do_one_by_one(answerer, signatures):
    answers = signatures["answer"](tf.constant(QUESTIONS))
    parts = ("score", "reading_score", "retrieval_score", "reranker_score")
    for row, wanted in enumerate(step_by_step(answerer, QUESTIONS, 4, 6)):
        name, scores, answer, start, end = wanted
        found = {key: value.numpy()[row] for key, value in answers.items()}
        assert found["document"].decode() == name
        assert found["passage"].decode() == TEXTS[IDS.index(name)]
        assert (found["answer"], found["start"], found["end"]) == (answer, start, end)
        assert found["passage"][start:end] == answer != b""
        np.testing.assert_allclose([found[part] for part in parts], scores, atol=1e-4)


def test_an_answer_is_the_same_whatever_is_beside_it(signatures):
    answer = signatures["answer"]
    questions = [*QUESTIONS, "", "the " * 30]
    together = {name: value.numpy() for name, value in answer(tf.constant(questions)).items()}
    for row, question in enumerate(questions):
        for name, value in answer(tf.constant([question])).items():
            if name.endswith("score"):
                np.testing.assert_allclose(together[name][row], value[0], atol=1e-4)
            else:
                assert together[name][row] == value[0].numpy()


def test_no_questions_have_no_answers(signatures):
    found = signatures["answer"](tf.constant([], tf.string))
    assert {value.shape[0] for value in found.values()} == {0}


def test_kept_tokens_are_the_tokenizers(answerer, tokenizer):
    places = [5, 0, 4, 1, 5]
    kept = answerer._tokens.of(tf.constant(places))
    wanted = tokenizer.tokenize_with_offsets([TEXTS[place] for place in places])
    for ours, theirs in zip(kept, wanted, strict=True):
        assert ours.dtype == tf.int32 and ours.to_list() == theirs.to_list()
    assert answerer._tokens is not answerer._reranker_tokens


@pytest.mark.slow
def test_the_bundle_answers_as_in_memory(answerer, search, signatures, tmp_path):
    bundle = export_bundle(
        signatures, tmp_path, "answers", modules=[answerer], probes=answerer.probes()
    )
    with Session(bundle) as session:
        served = session.run("answer", {"question": QUESTIONS})
        default = session.run("serving_default", {"question": QUESTIONS})
        listed = session.run("search", {"query": QUESTIONS, "k": [2] * 4})
    ours = signatures["answer"](tf.constant(QUESTIONS))
    assert served.keys() == default.keys() == ours.keys()
    for name, value in ours.items():
        assert served[name].shape == (4,)
        if value.dtype == tf.float32:
            np.testing.assert_allclose(served[name], value, atol=1e-4)
        else:
            np.testing.assert_array_equal(served[name], value)
    wanted = search.signatures(answerer.preprocess)["search"](QUESTIONS, [2] * 4)
    np.testing.assert_array_equal(listed["ids"], wanted["ids"])


def test_where_no_document_answers_the_answer_is_empty(search, preprocess, reader, model):
    answerer = CorpusAnswerer(search, preprocess, reader)
    everywhere = tf.constant([[0, 1, 4]])
    question = tf.constant(["who sat on the mat"])
    try:
        model.no_answer_threshold = None
        readings = {k: v.numpy()[0] for k, v in answerer.read(question, everywhere).items()}
        assert readings["end"][2] == 0 and readings["answer"][2] == b""  # it has no tokens
        margins = readings["reading_score"]
        low, high = sorted([0, 1], key=lambda document: margins[document])
        model.no_answer_threshold = float(-margins[[low, high]].mean())
        readings = {k: v.numpy()[0] for k, v in answerer.read(question, everywhere).items()}
        assert readings["answer"][low] == b"" != readings["answer"][high]
        model.no_answer_threshold = -1e6  # no answer is that much surer
        answer = answerer.signatures(k=7)["answer"](question)
        assert answer["answer"][0] == b"" and answer["document"][0].numpy().decode() in IDS
        assert answer["start"][0] == answer["end"][0] == 0
    finally:
        model.no_answer_threshold = None


def test_of_equal_documents_the_first_answers(preprocess, reader):
    embedder = TextEmbedder(backbone(1))
    texts = ["old mat", "the cat sat on the mat", "the cat sat on the mat"]
    vectors = embedder.embed(preprocess(texts)).numpy()
    search = CorpusSearch(embedder, vectors, ids=["a", "b", "c"], texts=texts)
    answer = CorpusAnswerer(search, preprocess, reader).signatures(k=3)["answer"]
    assert {answer([question])["document"].numpy()[0] for question in QUESTIONS} <= {b"a", b"b"}
    assert "reranker_score" not in answer(["who sat"])


def test_what_does_not_fit_is_refused(answerer, tokenizer, model):
    with pytest.raises(InputError, match="k must be at least 1. Received: 0"):
        answerer.signatures(k=0)
    three = TextClassifier(backbone(4), labels=["a", "b", "c"])
    pairs = Preprocessor(tokenizer, sequence_length=20)
    with pytest.raises(InputError, match="a re-ranker must give one number.*3 classes"):
        PairRanker(three, pairs)
    number = TextClassifier(backbone(4), kind="regression")
    with pytest.raises(InputError, match="sequence_length must be at least 68.*Received: 20"):
        PairRanker(number, pairs)
    with pytest.raises(InputError, match="leaves 11 tokens"):
        ContextReader(model, pairs, overlap=11, max_question_tokens=6)
