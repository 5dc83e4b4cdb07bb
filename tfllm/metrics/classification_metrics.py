"""One class for each row: how often it is the right one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["classification"]


def classification(
    targets: np.ndarray, scores: np.ndarray, labels: Sequence[str]
) -> dict[str, float]:
    """Measure a classifier by the class with the highest score of each row.

    F1 of a class is 2·TP / (2·TP + FP + FN). The macro mean goes over the classes that occur
    among targets or predictions, as scikit-learn's does; micro F1 is the accuracy, and is given
    because papers give it. Matthews' coefficient (1975) is scikit-learn's for many classes.

    Args:
        targets: `<int>[rows]`, numbers of the right classes.
        scores: `<float>[rows, classes]`, logits or probabilities; of equal ones the first wins.
        labels: names of the classes, in the order of their numbers.

    Returns:
        `accuracy`, `macro_f1`, `micro_f1`, `matthews`, and `f1/<label>` for each class; 0 for a
        class that is neither right nor predicted anywhere. `matthews` is 0 where targets or
        predictions have one class only; without rows all are 0.

    Example:
        targets 0 0 1, predicted 0 1 1: accuracy 2/3, f1 of both classes 2/3, matthews 1/2.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    predicted = np.argmax(scores, axis=1) if len(targets) else np.zeros(0, np.int64)
    targets = np.asarray(targets)
    classes = np.arange(len(labels))
    if not len(targets):
        by_class = np.zeros(len(labels))
    else:
        by_class = f1_score(targets, predicted, labels=classes, average=None, zero_division=0.0)
    occurring = np.union1d(targets, predicted).astype(np.int64)
    accuracy = float(accuracy_score(targets, predicted)) if len(targets) else 0.0
    constant = min(len(np.unique(targets)), len(np.unique(predicted))) < 2
    return {
        "accuracy": accuracy,
        "macro_f1": float(by_class[occurring].mean()) if len(occurring) else 0.0,
        "micro_f1": accuracy,
        "matthews": 0.0 if constant else float(matthews_corrcoef(targets, predicted)),
        **{f"f1/{label}": float(value) for label, value in zip(labels, by_class, strict=True)},
    }
