"""SciFact, read for training, and searched by words."""

import json

import numpy as np

from tfllm import metrics
from tfllm.data.tasks import read_retrieval
from tfllm.retrieval import Bm25, mine_hard_negatives


def test_scifact_by_bm25_and_its_hard_negatives(data):
    folder = str(data / "retrieval" / "scifact")
    parts = read_retrieval([folder], test_judged="test", validation_fraction=0.1)
    assert len(parts.place_of) == 5183 and len(parts.test.queries) == 300
    assert len(parts.train.queries) + len(parts.validation.queries) == 809
    ids, index = [*parts.place_of], Bm25(document["text"] for document in parts.documents)
    places, scores = index.search([*parts.test.queries.values()], 100)
    found = {
        query: {ids[place]: float(score) for place, score in zip(*row, strict=True) if place >= 0}
        for query, *row in zip(parts.test.queries, places, scores, strict=True)
    }
    measured = metrics.ranking(found, parts.test.scores)
    print(json.dumps({f"scifact_bm25_{name}": round(v, 4) for name, v in measured.items()}))
    assert measured["ndcg_10"] >= 0.65  # published: 0.665 by Thakur et al., 2021
    pairs = parts.train.pairs(parts.place_of)
    mined = mine_hard_negatives(index, [*parts.train.queries.values()], pairs.known(), 30)
    assert (mined[:, 0] >= 0).all()
    assert not any(
        np.isin(row, known).any() for row, known in zip(mined, pairs.known(), strict=True)
    )
