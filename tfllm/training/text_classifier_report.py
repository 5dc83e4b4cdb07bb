"""What is drawn and written of a classifier of texts, of whichever kind it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfllm.training.figures import calibration, confusion_matrix, precision_recall, scatter
from tfllm.training.prediction_lines import class_lines, multi_label_lines, number_lines

__all__ = ["classifier_figures", "classifier_lines"]

_Outputs = Mapping[str, np.ndarray]


def classifier_figures(
    kind: str, labels: Sequence[str], outputs: _Outputs
) -> dict[str, np.ndarray]:
    """Draw where predictions go wrong.

    Args:
        kind: `single_label`, `multi_label` or `regression`.
        labels: names of the classes, in the order of their numbers.
        outputs: `targets`, and `scores` `<float>[rows, classes]`, or `score` `<float>[rows]` of a
            regression.

    Returns:
        pictures by name, `<uint8>[1, height, width, 3]`.
    """
    targets = outputs["targets"]
    if kind == "regression":
        return {"predicted": scatter(targets, outputs["score"])}
    scores = outputs["scores"]
    drawn = {"precision_recall": precision_recall(targets, scores, labels)}
    if kind == "single_label":
        drawn["confusion"] = confusion_matrix(targets, scores.argmax(axis=1), labels)
        drawn["calibration"] = calibration(targets, scores)
    return drawn


def classifier_lines(
    kind: str,
    labels: Sequence[str],
    thresholds: Sequence[float],
    examples: Iterable[Mapping[str, Any]],
    outputs: _Outputs,
) -> Iterator[dict[str, Any]]:
    """Write each example beside what was predicted; see `classifier_figures`.

    `thresholds` are those of several labels, one for each.
    """
    if kind == "regression":
        return number_lines(examples, outputs["score"])
    if kind == "multi_label":
        return multi_label_lines(examples, outputs["scores"], labels, thresholds)
    return class_lines(examples, outputs["scores"], labels)
