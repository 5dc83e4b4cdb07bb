import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models import CorpusSearch
from tfllm.models.backbones import create_backbone
from tfllm.models.text_embedder import TextEmbedder
from tfllm.serving import Session
from tfllm.text import Preprocessor, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"
TEXTS = ["the cat", "the dog saw", "a house by the sea", "old mat", "日本", "the cat sat", ""]
IDS = [f"d{i}" for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def embedder() -> TextEmbedder:
    tf.keras.utils.set_random_seed(1)
    config = BertConfig(
        vocab_size=120,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    return TextEmbedder(create_backbone(config))


@pytest.fixture(scope="module")
def preprocess() -> Preprocessor:
    tokenizer = train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本"] * 2, 120)
    return Preprocessor(tokenizer, sequence_length=12)


@pytest.fixture(scope="module")
def search(embedder, preprocess) -> CorpusSearch:
    vectors = embedder.embed(preprocess(TEXTS)).numpy()
    return CorpusSearch(embedder, vectors, ids=IDS, texts=TEXTS, block=3)


def by_numpy(queries, vectors, k):
    """The best first; of equal ones the earlier."""
    scores = queries @ vectors.T
    places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(scores, places, 1)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), documents=st.integers(1, 23), block=st.integers(1, 9))
def test_it_finds_what_numpy_finds(embedder, data, documents, block):
    """Whole numbers, so that scores are exact and often equal."""
    seed, k = data.draw(st.integers(0, 99)), data.draw(st.integers(1, documents))
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, [documents, 8]).astype(np.float32)
    queries = rng.integers(-2, 3, [3, 8]).astype(np.float32)
    names = [str(i) for i in range(documents)]
    search = CorpusSearch(embedder, vectors, ids=names, texts=names, block=block)
    found = search.nearest(tf.constant(queries), k)
    places, scores = by_numpy(queries, vectors, k)
    np.testing.assert_array_equal(found.places, places)
    np.testing.assert_array_equal(found.scores, scores)


def test_signatures_give_the_documents(search, preprocess):
    serving = search.signatures(preprocess, k=3)
    answer = serving["serving_default"](["the cat", "by the sea"])
    assert answer["ids"].shape == answer["scores"].shape == (2, 3)
    assert answer["ids"][0, 0] == b"d0" and answer["texts"][0, 0] == b"the cat"
    np.testing.assert_allclose(answer["scores"][0, 0], 1.0, atol=1e-6)
    asked = serving["search"](["the cat", "by the sea", "old"], [1, 99, 0])
    assert asked["ids"].shape == (3, len(TEXTS))
    assert sorted(asked["ids"][1].numpy().tolist()) == sorted(i.encode() for i in IDS)
    np.testing.assert_array_equal(asked["ids"][0, 1:], [b""] * 6)
    np.testing.assert_array_equal(asked["scores"][2, 1:], [0.0] * 6)
    alone = serving["search"](["by the sea"], [3])
    np.testing.assert_array_equal(alone["ids"][0], answer["ids"][1])


@pytest.mark.slow
def test_the_bundle_carries_the_corpus(search, preprocess, tmp_path):
    bundle = export_bundle(
        search.signatures(preprocess, k=2),
        tmp_path,
        "corpus",
        modules=[search, preprocess],
        probes=search.probes(),
    )
    served = Session(bundle).run("search", {"query": ["the dog", ""], "k": [2, 1]})
    ours = search.signatures(preprocess)["search"](["the dog", ""], [2, 1])
    np.testing.assert_array_equal(served["texts"], ours["texts"])
    np.testing.assert_allclose(served["scores"], ours["scores"], atol=1e-6)


def test_what_is_no_corpus(embedder, preprocess, search):
    with pytest.raises(InputError, match="no documents"):
        CorpusSearch(embedder, np.zeros([0, 8], np.float32), ids=[], texts=[])
    with pytest.raises(InputError, match="2 vectors, 1 ids and 2 texts"):
        CorpusSearch(embedder, np.zeros([2, 8], np.float32), ids=["a"], texts=["a", "b"])
    with pytest.raises(InputError, match="k must be at least 1. Received: 0"):
        search.signatures(preprocess, k=0)
