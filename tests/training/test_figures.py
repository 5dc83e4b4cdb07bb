"""Pictures are looked at by people; here, that they show the numbers they are given."""

import subprocess
import sys

import numpy as np
import pytest

from tfllm.training import figures

LABELS = ("no", "yes", "中文", "$x$ is " + "long " * 9)


def check(picture: np.ndarray) -> np.ndarray:
    assert picture.dtype == np.uint8 and picture.shape[0] == 1 and picture.shape[3] == 3
    assert min(picture.shape[1:3]) >= 300 and picture.min() < 64 and picture.max() == 255
    return picture


def dark_blue(picture: np.ndarray) -> int:
    """Pixels of the colour of a whole row's share."""
    return int(np.all(picture == [8, 48, 107], axis=-1).sum())


def test_confusion_matrix():
    targets = np.array([0, 1, 2, 3])
    right = check(figures.confusion_matrix(targets, targets, LABELS))
    half = check(figures.confusion_matrix(targets, np.array([0, 1, 0, 0]), LABELS))
    none = check(figures.confusion_matrix(targets[:0], targets[:0], LABELS))
    # Four cells, the same four in other places, and none but the colour bar's end.
    assert dark_blue(right) > 4 * 1_000 > 4 * dark_blue(none)
    assert dark_blue(half) == pytest.approx(dark_blue(right), rel=0.02)
    assert (right != half).any()


def test_more_classes_than_can_be_read():
    labels = [str(n) for n in range(80)]
    picture = check(figures.confusion_matrix(np.arange(80), np.arange(80), labels))
    assert max(picture.shape) <= 1_750


def test_entity_confusion():
    true = [["B-PER", "I-PER", "O", "B-LOC", "O", "B-ORG"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG", "B-LOC", "O"]]
    assert (
        check(figures.entity_confusion(true, predicted))
        != check(figures.entity_confusion(true, true))
    ).any()
    check(figures.entity_confusion([["O"]], [["O"]]))


@pytest.mark.parametrize("classes", [2, 4, 12])
def test_precision_recall(classes):
    rng = np.random.default_rng(0)
    targets, scores = rng.integers(0, classes, 60), rng.random((60, classes))
    labels = [f"class {n}" for n in range(classes)]
    good = scores + np.eye(classes)[targets]
    assert (
        check(figures.precision_recall(targets, scores, labels))
        != check(figures.precision_recall(targets, good, labels))
    ).any()
    marks = np.eye(classes)[targets]
    check(figures.precision_recall(marks, scores, labels))


def test_curves_that_are_drawn():
    def drawn(targets, classes):
        return [number for number, _ in figures._curves(np.array(targets), classes)]

    assert drawn([0, 1, 1], 2) == [1]  # the other one is its mirror
    assert drawn([0, 0], 2) == []
    assert drawn([[1, 0, 1], [1, 0, 0]], 3) == [0, 2]
    assert drawn([*range(12), 11, 10], 12) == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]


def test_calibration_and_scatter():
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    check(figures.calibration(np.array([0, 0, 0]), scores))
    check(figures.scatter(np.arange(6_000.0), np.append(np.arange(5_999.0), np.nan)))


def test_no_rows():
    none, numbers = np.zeros((0, 2)), np.zeros(0)
    for picture in (
        figures.precision_recall(numbers.astype(int), none, ("a", "b")),
        figures.calibration(numbers.astype(int), none),
        figures.scatter(numbers, numbers),
    ):
        check(picture)


def test_nothing_global_is_touched():
    code = """
import sys
import numpy as np
from tfllm.training.figures import scatter
assert "matplotlib" not in sys.modules and "sklearn" not in sys.modules
scatter(np.ones(2), np.ones(2))
print("matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"


def test_confusion_of_tags_counts_words():
    true, said = [["N", "V"], ["N"]], [["N", "N"], ["N"]]
    picture = figures.tag_confusion(true, said)
    numbers = figures.confusion_matrix(np.array([0, 1, 0]), np.array([0, 0, 0]), ["N", "V"])
    np.testing.assert_array_equal(picture, numbers)
