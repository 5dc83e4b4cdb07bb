import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm import metrics

LABELS = ("news", "sport")


def test_by_hand():
    targets = np.array([[1, 0], [1, 1]])
    scores = np.array([[0.9, 0.2], [0.4, 0.5]], np.float32)
    found = metrics.multi_label(targets, scores, LABELS)
    assert found == pytest.approx(
        {
            "micro_f1": 4 / 5,
            "macro_f1": 5 / 6,
            "subset_accuracy": 1 / 2,
            "f1/news": 2 / 3,
            "f1/sport": 1.0,
        }
    )
    found = metrics.multi_label(targets, scores, LABELS, thresholds=[0.3, 0.6])
    assert (found["f1/news"], found["f1/sport"]) == (1.0, 0.0)


def test_a_score_at_its_threshold_is_chosen():
    scores = np.array([[0.1]], np.float32)
    assert metrics.multi_label(np.array([[1]]), scores, ["a"], 0.1)["micro_f1"] == 1.0


def test_one_class_and_no_class():
    found = metrics.multi_label(np.array([[1], [0]]), np.array([[0.8], [0.1]]), ["a"])
    assert found["macro_f1"] == found["subset_accuracy"] == 1.0
    found = metrics.multi_label(np.zeros((2, 2)), np.zeros((2, 2)), LABELS)
    assert found["subset_accuracy"] == 1.0 and found["micro_f1"] == found["macro_f1"] == 0.0


def test_no_rows():
    found = metrics.multi_label(np.zeros((0, 2)), np.zeros((0, 2)), LABELS)
    assert found == dict.fromkeys(found, 0.0) and len(found) == 5
    assert metrics.best_thresholds(np.zeros((0, 2)), np.zeros((0, 2))).tolist() == [0.5, 0.5]


def test_thresholds_by_hand():
    scores = np.array([[0.9, 0.9], [0.7, 0.7], [0.4, 0.4], [0.1, 0.1]])
    targets = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    assert metrics.best_thresholds(targets, scores) == pytest.approx([0.55, 0.25])


def test_thresholds_of_a_class_that_nothing_or_everything_is():
    scores = np.array([[0.9, 0.9], [0.8, 0.8]])
    targets = np.array([[0, 1], [0, 1]])
    assert metrics.best_thresholds(targets, scores) == pytest.approx([0.5, 0.4])
    assert metrics.best_thresholds(np.ones((2, 1)), np.zeros((2, 1))).tolist() == [0.5]
    assert metrics.best_thresholds(np.ones((2, 1)), np.ones((2, 1))).tolist() == [0.5]


# Scores that repeat, and some that are neighbouring floats.
SCORES = st.sampled_from([0.0, 0.1, 0.25, float(np.nextafter(np.float32(0.25), 1)), 0.5, 0.9, 1.0])


@given(st.lists(st.tuples(st.booleans(), SCORES), min_size=1, max_size=12))
def test_no_threshold_is_better(rows):
    targets = np.array([[target] for target, _ in rows])
    scores = np.array([[score] for _, score in rows], np.float32)
    (threshold,) = metrics.best_thresholds(targets, scores)
    assert 0 < threshold < 1

    def f1(at: float) -> float:
        return metrics.multi_label(targets, scores, ["a"], at)["micro_f1"]

    others = [score for score in np.unique(scores) if score > 0]
    assert f1(threshold) == max([f1(0.5), *map(f1, others)])
