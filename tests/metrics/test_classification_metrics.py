import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm import metrics


def scores_of(predicted: list[int], classes: int) -> np.ndarray:
    """The predicted class has the highest score, and no score is another's."""
    spread = np.arange(classes) / 100
    return np.eye(classes, dtype=np.float32)[predicted] + spread


def test_by_hand():
    found = metrics.classification(np.array([0, 0, 1]), scores_of([0, 1, 1], 2), ("no", "yes"))
    assert found == pytest.approx(
        {
            "accuracy": 2 / 3,
            "macro_f1": 2 / 3,
            "micro_f1": 2 / 3,
            "matthews": 0.5,  # (1·1 − 1·0) / √(2·1·1·2)
            "f1/no": 2 / 3,
            "f1/yes": 2 / 3,
        }
    )


def test_a_class_that_does_not_occur_is_no_part_of_the_mean():
    found = metrics.classification(np.array([0, 2, 2]), scores_of([0, 2, 0], 4), "abcd")
    assert found["f1/b"] == found["f1/d"] == 0.0
    assert found["macro_f1"] == pytest.approx((found["f1/a"] + found["f1/c"]) / 2)
    assert found["f1/c"] == pytest.approx(2 / 3)


def test_one_class_everywhere():
    found = metrics.classification(np.array([1, 1]), scores_of([1, 1], 2), ("no", "yes"))
    assert found["accuracy"] == found["macro_f1"] == found["f1/yes"] == 1.0
    assert found["matthews"] == found["f1/no"] == 0.0


def test_constant_scores_choose_the_first_class():
    found = metrics.classification(np.array([0, 1, 1, 1]), np.zeros((4, 2)), ("no", "yes"))
    assert found["accuracy"] == 0.25 and found["matthews"] == 0.0


def test_no_rows():
    found = metrics.classification(np.zeros(0, np.int32), np.zeros((0, 2)), ("no", "yes"))
    assert found == dict.fromkeys(found, 0.0) and "f1/yes" in found


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
def test_f1_and_matthews_by_counting(pairs):
    targets, predicted = map(np.array, zip(*pairs, strict=True))
    found = metrics.classification(targets, scores_of(list(predicted), 3), "abc")
    for i, label in enumerate("abc"):
        right = np.sum((targets == i) & (predicted == i))
        wrong = np.sum((targets == i) != (predicted == i))
        f1 = 2 * right / (2 * right + wrong) if right else 0.0
        assert found[f"f1/{label}"] == pytest.approx(f1)
    # Matthews' coefficient is the correlation of indicators, summed over classes.
    x, y = (np.eye(3)[side] - np.eye(3)[side].mean(0) for side in (targets, predicted))
    power = np.sqrt((x * x).sum() * (y * y).sum())
    assert found["matthews"] == pytest.approx((x * y).sum() / power if power else 0.0, abs=1e-9)
    assert all(np.isfinite(value) for value in found.values())
