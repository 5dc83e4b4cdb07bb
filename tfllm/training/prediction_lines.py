"""What stands in a file of predictions: an example, what was said of it, and how surely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["class_lines", "multi_label_lines", "number_lines", "tag_lines"]


def class_lines(
    examples: Iterable[Mapping[str, Any]], scores: np.ndarray, labels: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Give each example with its likeliest label.

    Args:
        examples: in the order of the scores' rows.
        scores: `<float>[rows, classes]`.
        labels: names of the classes, in the order of their numbers.

    Example:
        `{"text": "fine", "label": "good", "predicted": "bad", "scores": {"bad": 0.6, "good": 0.4}}`
    """
    for example, row in zip(examples, scores, strict=True):
        predicted = labels[int(np.argmax(row))]
        yield {**example, "predicted": predicted, "scores": dict(zip(labels, row, strict=True))}


def multi_label_lines(
    examples: Iterable[Mapping[str, Any]],
    scores: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float] | np.ndarray | float = 0.5,
) -> Iterator[dict[str, Any]]:
    """Give each example with all labels whose scores reach their thresholds.

    Args:
        examples: in the order of the scores' rows.
        scores: `<float>[rows, classes]`, probabilities.
        labels: names of the classes, in the order of their numbers.
        thresholds: one for each class, or one for all.
    """
    chosen = scores >= np.asarray(thresholds, scores.dtype)
    for example, row, marks in zip(examples, scores, chosen, strict=True):
        predicted = [label for label, mark in zip(labels, marks, strict=True) if mark]
        yield {**example, "predicted": predicted, "scores": dict(zip(labels, row, strict=True))}


def number_lines(
    examples: Iterable[Mapping[str, Any]], scores: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Give each example with its number.

    Args:
        examples: in the order of the scores' rows.
        scores: `<float>[rows]`.
    """
    for example, score in zip(examples, scores, strict=True):
        yield {**example, "predicted": score}


def tag_lines(
    examples: Iterable[Mapping[str, Any]],
    predicted_tags: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Give each sentence with the tags of its words.

    Args:
        examples: sentences, in the order of the tags.
        predicted_tags: one for each word.
        scores: probability of each predicted tag; None to leave them out.
    """
    for number, (example, tags) in enumerate(zip(examples, predicted_tags, strict=True)):
        line = {**example, "predicted": list(tags)}
        if scores is not None:
            line["scores"] = list(scores[number])
        yield line
