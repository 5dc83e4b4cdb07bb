import numpy as np
import pytest

from tfllm import metrics

LENGTHS = np.array([3, 9, 9])


def measure(kind, outputs, labels=("bad", "good"), thresholds=(0.5, 0.5)):
    return metrics.text_classifier(kind, outputs, labels, thresholds=thresholds, lengths=LENGTHS)


def test_one_label_has_slices_too():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    found = measure("single_label", {"targets": np.array([0, 1, 1]), "scores": scores})
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["accuracy/label bad"] == 1.0 and found["accuracy/label good"] == 0.5
    assert found["accuracy/tokens 0-8"] == 1.0 and found["accuracy/tokens 9-16"] == 0.5


def test_several_labels_by_their_thresholds():
    scores = np.array([[0.3, 0.1], [0.1, 0.6], [0.3, 0.6]])
    outputs = {"targets": np.array([[1, 0], [0, 1], [1, 1]]), "scores": scores}
    assert measure("multi_label", outputs, thresholds=(0.2, 0.5))["subset_accuracy"] == 1.0
    assert measure("multi_label", outputs)["subset_accuracy"] == pytest.approx(1 / 3)


def test_numbers():
    outputs = {"targets": np.array([1.0, 2.0, 3.0]), "score": np.array([0.1, 0.2, 0.4])}
    assert measure("regression", outputs, labels=())["spearman"] == pytest.approx(1.0)
