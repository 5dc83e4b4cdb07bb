import numpy as np

from tfllm.retrieval import exact_search


def test_it_is_a_sort_of_all_scores(monkeypatch):
    rng = np.random.default_rng(1)
    documents = rng.integers(-2, 3, (40, 3)).astype(np.float32)  # many ties
    queries = rng.integers(-2, 3, (9, 3)).astype(np.float32)
    scores = queries @ documents.T
    wanted = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 5, 40, 60):
        places, found = exact_search(queries, documents, k)
        np.testing.assert_array_equal(places, wanted[:, :k])
        np.testing.assert_array_equal(found, np.take_along_axis(scores, wanted[:, :k], 1))
        assert places.shape == (9, min(k, 40)) and found.dtype == np.float32
    monkeypatch.setattr("tfllm.retrieval.numpy_search._SCORES", 100)  # two queries at a time
    np.testing.assert_array_equal(exact_search(queries, documents, 5)[0], wanted[:, :5])
