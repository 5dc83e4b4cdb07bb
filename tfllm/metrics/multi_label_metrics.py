"""Any number of classes for each row, and from which score on a class is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["best_thresholds", "multi_label"]


def multi_label(
    targets: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float] | np.ndarray | float = 0.5,
) -> dict[str, float]:
    """Measure which classes were chosen: those whose score reaches its threshold.

    Args:
        targets: `<0 or 1>[rows, classes]`.
        scores: `<float>[rows, classes]`, probabilities.
        labels: names of the classes, in the order of their numbers.
        thresholds: one for each class, or one for all.

    Returns:
        `micro_f1` over all decisions, `macro_f1` (the mean of the classes'), `subset_accuracy`
        (the share of rows with every decision right), and `f1/<label>`. F1 is 2·TP / (2·TP + FP
        + FN), and 0 for a class that is neither right nor chosen anywhere. Without rows all are 0.

    Example:
        targets 1 0 | 1 1, chosen 1 0 | 0 1: micro_f1 4/5, macro_f1 5/6, subset_accuracy 1/2.
    """
    from sklearn.metrics import accuracy_score, f1_score

    targets = np.asarray(targets).astype(bool)
    # Compared in the scores' own precision, as a graph does.
    chosen = np.asarray(scores) >= np.asarray(thresholds, np.asarray(scores).dtype)
    if not len(targets):
        names = ("micro_f1", "macro_f1", "subset_accuracy", *(f"f1/{label}" for label in labels))
        return dict.fromkeys(names, 0.0)
    # Without a dimension more, scikit-learn takes one class of many for a class of two.
    by_class = [
        f1_score(targets[:, i], chosen[:, i], zero_division=0.0) for i in range(len(labels))
    ]
    return {
        "micro_f1": float(f1_score(targets.ravel(), chosen.ravel(), zero_division=0.0)),
        "macro_f1": float(np.mean(by_class)),
        "subset_accuracy": float(accuracy_score(targets, chosen)),
        **{f"f1/{label}": float(value) for label, value in zip(labels, by_class, strict=True)},
    }


def best_thresholds(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Find the threshold of each class that gives its highest F1, on a validation set.

    A threshold lies half way between two scores that occur; of equally good ones it is the one
    nearest to 0.5.

    Args:
        targets: `<0 or 1>[rows, classes]`.
        scores: `<float>[rows, classes]`, probabilities.

    Returns:
        `<float32>[classes]`, each within (0, 1); 0.5 for a class that no row has.

    Example:
        scores 0.9 0.7 0.4 0.1, targets 1 1 0 0 → 0.55; targets 1 0 1 0 → 0.25.
    """
    columns = zip(np.asarray(targets).T, np.asarray(scores, np.float32).T, strict=True)
    found = [_best_threshold(target.astype(bool), score) for target, score in columns]
    return np.array(found, np.float32)


def _best_threshold(targets: np.ndarray, scores: np.ndarray) -> float:
    if not targets.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    # A threshold can only lie where the next score is another one, or below the lowest.
    last = np.flatnonzero(np.append(scores[:-1] != scores[1:], scores[-1] > 0))
    if not len(last):  # all scores are 0: every threshold chooses nothing
        return 0.5
    right = np.cumsum(targets[order])[last]
    f1 = 2 * right / (last + 1 + targets.sum())
    below = np.append(scores, np.float32(0))[last + 1]
    halves = (scores[last] + below) / 2
    # Between neighbouring floats the half is the lower one perhaps, which must not be chosen.
    thresholds = np.where(halves > below, halves, scores[last])
    best = np.flatnonzero(f1 == f1.max())
    nearest = best[np.argmin(np.abs(thresholds[best] - 0.5))]
    return float(np.clip(thresholds[nearest], np.finfo(np.float32).tiny, 1 - 2.0**-24))
