"""Metrics: numbers that can be held against published ones.

Each function takes arrays or strings and gives flat `{name: number}`, ready for `run.json` and
TensorBoard. A name with a slash (`f1/PER`) is a detail of the one before it. No number is ever
NaN but where a loss is: what can't be measured, for want of rows or of a second class, is 0.

Names are imported when they are first used: scikit-learn takes a second to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.metrics.answer_metrics import (
        answers,
        answers_or_none,
        best_no_answer_threshold,
        normalised_answer,
    )
    from tfllm.metrics.classification_metrics import classification
    from tfllm.metrics.entity_metrics import entities, tagging
    from tfllm.metrics.generation_metrics import GENERATION_METRICS, generation, signatures
    from tfllm.metrics.language_model_metrics import (
        bits_per_byte,
        gzip_bits_per_byte,
        language_model,
        perplexity,
    )
    from tfllm.metrics.multi_label_metrics import best_thresholds, multi_label
    from tfllm.metrics.ranking_metrics import ranking
    from tfllm.metrics.regression_metrics import regression
    from tfllm.metrics.slice_metrics import length_buckets, slices
    from tfllm.metrics.text_classifier_metrics import text_classifier

__all__ = [
    "GENERATION_METRICS",
    "answers",
    "answers_or_none",
    "best_no_answer_threshold",
    "best_thresholds",
    "bits_per_byte",
    "classification",
    "entities",
    "generation",
    "gzip_bits_per_byte",
    "language_model",
    "length_buckets",
    "multi_label",
    "normalised_answer",
    "perplexity",
    "ranking",
    "regression",
    "signatures",
    "slices",
    "tagging",
    "text_classifier",
]

_HOMES = {
    "GENERATION_METRICS": "generation_metrics",
    "answers": "answer_metrics",
    "answers_or_none": "answer_metrics",
    "best_no_answer_threshold": "answer_metrics",
    "best_thresholds": "multi_label_metrics",
    "bits_per_byte": "language_model_metrics",
    "classification": "classification_metrics",
    "entities": "entity_metrics",
    "generation": "generation_metrics",
    "gzip_bits_per_byte": "language_model_metrics",
    "language_model": "language_model_metrics",
    "length_buckets": "slice_metrics",
    "multi_label": "multi_label_metrics",
    "normalised_answer": "answer_metrics",
    "perplexity": "language_model_metrics",
    "ranking": "ranking_metrics",
    "regression": "regression_metrics",
    "signatures": "generation_metrics",
    "slices": "slice_metrics",
    "tagging": "entity_metrics",
    "text_classifier": "text_classifier_metrics",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
