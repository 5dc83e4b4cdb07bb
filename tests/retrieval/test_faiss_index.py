import sys

import numpy as np
import pytest

from tfllm.errors import InputError
from tfllm.retrieval import FaissIndex

rng = np.random.default_rng(0)
VECTORS = rng.normal(size=[500, 16]).astype(np.float32)
QUERIES = rng.normal(size=[7, 16]).astype(np.float32)


def exact(k):
    return np.argsort(-(QUERIES @ VECTORS.T), axis=1, kind="stable")[:, :k]


def test_flat_is_exact_and_comes_back_from_its_file(tmp_path):
    FaissIndex.build(VECTORS).save(tmp_path / "index.faiss")
    index = FaissIndex.load(tmp_path / "index.faiss")
    places, scores = index.search(QUERIES, 10)
    np.testing.assert_array_equal(places, exact(10))
    wanted = np.take_along_axis(QUERIES @ VECTORS.T, exact(10), 1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    assert len(index) == 500
    assert [path.name for path in tmp_path.iterdir()] == ["index.faiss"]


@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.95), ("ivf", 0.1)])
def test_others_find_most(kind, least):
    places, _ = FaissIndex.build(VECTORS, kind).search(QUERIES, 10)
    right = [len(set(a) & set(b)) / 10 for a, b in zip(places, exact(10), strict=True)]
    assert np.mean(right) >= least


def test_what_is_no_index(tmp_path, monkeypatch):
    (tmp_path / "a.faiss").write_bytes(b"nothing")
    with pytest.raises(InputError, match="can't be read as an index"):
        FaissIndex.load(tmp_path / "a.faiss")
    with pytest.raises(InputError, match="one of flat, hnsw, ivf"):
        FaissIndex.build(VECTORS, "tree")
    with pytest.raises(InputError, match="no vectors"):
        FaissIndex.build(VECTORS[:0])
    with pytest.raises(InputError, match="can't be written"):
        FaissIndex.build(VECTORS).save(tmp_path / "no" / "a.faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"tfllm\[faiss\]"):
        FaissIndex.build(VECTORS)
