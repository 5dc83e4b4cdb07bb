import math
import sys

import pytest

from tfllm.errors import InputError
from tfllm.metrics import ranking

JUDGED = {"q1": {"d1": 1, "d2": 2, "d4": 0}, "q2": {"d3": 1}}


def test_numbers_by_hand():
    found = {"q1": {"d2": 0.9, "d9": 0.5, "d1": 0.4}, "q2": {"d1": 0.3}}
    best = 2 / math.log2(2) + 1 / math.log2(3)
    ndcg = (2 / math.log2(2) + 1 / math.log2(4)) / best
    wanted = {"ndcg_10": ndcg / 2, "mrr_10": 0.5, "recall_100": 0.5}
    assert ranking(found, JUDGED) == pytest.approx(wanted)
    assert ranking({"q1": found["q1"]}, JUDGED) == pytest.approx(wanted)


def test_only_the_first_ten_count_and_the_first_hundred():
    below = {f"x{i}": float(200 - i) for i in range(99)}
    found = {"q2": below | {"d3": 1.0}}
    assert ranking(found, {"q2": {"d3": 1}}) == {"ndcg_10": 0.0, "mrr_10": 0.0, "recall_100": 1.0}
    found = {"q2": below | {"x99": 1.5, "d3": 1.0}}
    assert ranking(found, {"q2": {"d3": 1}})["recall_100"] == 0.0


def test_a_query_does_not_find_itself():
    found = {"q2": {"q2": 2.0, "d3": 1.0}}
    assert ranking(found, {"q2": {"d3": 1}})["mrr_10"] == 1.0


def test_nobody_asked():
    assert ranking({}, {}) == {"ndcg_10": 0.0, "mrr_10": 0.0, "recall_100": 0.0}


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(InputError, match=r"pip install 'tfllm\[retrieval\]'"):
        ranking({}, JUDGED)
