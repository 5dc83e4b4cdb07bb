"""What a classifier of texts is measured by, of whichever kind it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfllm.metrics.classification_metrics import classification
from tfllm.metrics.multi_label_metrics import multi_label
from tfllm.metrics.regression_metrics import regression
from tfllm.metrics.slice_metrics import length_buckets, slices

__all__ = ["text_classifier"]


def text_classifier(
    kind: str,
    outputs: Mapping[str, np.ndarray],
    labels: Sequence[str],
    *,
    thresholds: Sequence[float],
    lengths: np.ndarray,
) -> dict[str, float]:
    """Measure predictions as papers on such data do.

    Args:
        kind: `single_label`, `multi_label` or `regression`.
        outputs: `targets`, and `scores` `<float>[rows, classes]`, or `score` `<float>[rows]` of a
            regression.
        labels: names of the classes, in the order of their numbers.
        thresholds: of several labels, one for each.
        lengths: `<int>[rows]`, tokens.

    Returns:
        what `regression`, `multi_label` or `classification` gives, of one label also the accuracy
        by label and by length.
    """
    targets = outputs["targets"]
    if kind == "regression":
        return regression(targets, outputs["score"])
    scores = outputs["scores"]
    if kind == "multi_label":
        return multi_label(targets, scores, labels, thresholds)
    right = scores.argmax(axis=1) == targets
    by = {
        "label": [labels[target] for target in targets],
        "tokens": length_buckets(lengths),
    }
    return classification(targets, scores, labels) | slices(right, by)
