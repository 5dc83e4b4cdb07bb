"""Training around `model.fit`: one exact step, devices, checkpoints, monitoring.

A name is imported when it is first asked for: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.training.best_metric import BestMetric
    from tfllm.training.devices import check_batch, create_strategy, set_precision, set_seed
    from tfllm.training.figures import (
        calibration,
        confusion_matrix,
        entity_confusion,
        precision_recall,
        scatter,
    )
    from tfllm.training.folder import train_in_folder
    from tfllm.training.join_windows import best_windows, join_words
    from tfllm.training.language_model import train_language_model
    from tfllm.training.language_model_report import LanguageModelReport
    from tfllm.training.loop import Trained, train
    from tfllm.training.prediction_lines import (
        class_lines,
        multi_label_lines,
        number_lines,
        tag_lines,
    )
    from tfllm.training.row_predictor import RowPredictor, predict_rows
    from tfllm.training.run_estimate import Estimate, estimate
    from tfllm.training.task import train_task
    from tfllm.training.task_report import TaskReport
    from tfllm.training.workers import Workers

__all__ = [
    "BestMetric",
    "Estimate",
    "LanguageModelReport",
    "RowPredictor",
    "TaskReport",
    "Trained",
    "Workers",
    "best_windows",
    "calibration",
    "check_batch",
    "class_lines",
    "confusion_matrix",
    "create_strategy",
    "entity_confusion",
    "estimate",
    "join_words",
    "multi_label_lines",
    "number_lines",
    "precision_recall",
    "predict_rows",
    "scatter",
    "set_precision",
    "set_seed",
    "tag_lines",
    "train",
    "train_in_folder",
    "train_language_model",
    "train_task",
]

_HOMES = {
    "BestMetric": "best_metric",
    "Estimate": "run_estimate",
    "LanguageModelReport": "language_model_report",
    "RowPredictor": "row_predictor",
    "TaskReport": "task_report",
    "Trained": "loop",
    "Workers": "workers",
    "best_windows": "join_windows",
    "calibration": "figures",
    "check_batch": "devices",
    "class_lines": "prediction_lines",
    "confusion_matrix": "figures",
    "create_strategy": "devices",
    "entity_confusion": "figures",
    "estimate": "run_estimate",
    "join_words": "join_windows",
    "multi_label_lines": "prediction_lines",
    "number_lines": "prediction_lines",
    "precision_recall": "figures",
    "predict_rows": "row_predictor",
    "scatter": "figures",
    "set_precision": "devices",
    "set_seed": "devices",
    "tag_lines": "prediction_lines",
    "train": "loop",
    "train_in_folder": "folder",
    "train_language_model": "language_model",
    "train_task": "task",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
