import builtins

import numpy as np
import pytest

from tfllm.errors import InputError
from tfllm.retrieval import Bm25, mine_hard_negatives

DOCUMENTS = [
    "Cats chase mice at night.",
    "",
    "The night train leaves at noon.",
    "Mice fear cats, and cats fear dogs.",
    "Cats chase mice at night.",
    "Rain again.",
]


@pytest.fixture(scope="module")
def index() -> Bm25:
    return Bm25(DOCUMENTS)


def test_the_best_first_and_nothing_that_shares_no_word(index):
    places, scores = index.search(["cats chase mice", "noon", "elephants", "", "of the"], 4)
    assert places[0].tolist() == [0, 4, 3, -1]
    assert places[1].tolist() == [2, -1, -1, -1] and scores[1, 0] > 0 == scores[1, 1]
    assert (places[2:] == -1).all() and (scores[2:] == 0).all()
    assert np.all(np.diff(scores[0][:3]) <= 0) and len(index) == len(DOCUMENTS)
    # As many as there are, and more.
    assert (
        index.search(["cats night"], 6)[0].tolist()
        == index.search(["cats night"], 9)[0][:, :6].tolist()
    )


def test_ties_go_to_the_earlier_document_whatever_k():
    index = Bm25(["same words"] * 50 + ["other words here"])
    for k in (1, 7, 50, 51):
        places = index.search(["same"], k)[0][0]
        assert places.tolist() == [*range(min(k, 50)), *[-1] * (k - 50)]


def test_what_answers_a_query_is_never_mined(index):
    queries = ["cats chase mice", "night", "rain"]
    mined = mine_hard_negatives(index, queries, [[0, 4], [], [5]], 2)
    assert mined.tolist() == [[3, -1], [0, 2], [-1, -1]]
    every = mine_hard_negatives(index, queries, [[0, 4], [], [5]], 10**12)
    assert every.shape == (3, len(DOCUMENTS)) and every[:, :2].tolist() == mined.tolist()
    again = mine_hard_negatives(Bm25(DOCUMENTS), queries, [{0, 4}, set(), {5}], 2)
    np.testing.assert_array_equal(again, mined)
    rng = np.random.default_rng(0)
    words = np.array("ant bee cow dog elk fox gnu hen".split())
    texts = [" ".join(rng.choice(words, 4)) for _ in range(60)]
    known = [rng.choice(60, rng.integers(0, 20), replace=False) for _ in range(30)]
    mined = mine_hard_negatives(Bm25(texts), texts[:30], known, 10)
    for row, answers in zip(mined, known, strict=True):
        found = row[row >= 0]
        assert not set(found) & set(answers) and len(set(found)) == len(found)


def test_what_can_t_be_indexed(monkeypatch):
    with pytest.raises(InputError, match="BM25 finds no word in 2 documents"):
        Bm25(["", "?"])
    real = builtins.__import__

    def without(name, *rest, **kwargs):
        if name == "bm25s":
            raise ImportError(name)
        return real(name, *rest, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"needs bm25s.*'tfllm\[retrieval\]'"):
        Bm25(DOCUMENTS)
