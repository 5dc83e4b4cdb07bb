"""Training around `model.fit`: one exact step, devices, checkpoints, monitoring.

A name is imported when it is first asked for: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.training.best_metric import BestMetric
    from tfllm.training.devices import (
        check_batch,
        create_strategy,
        set_precision,
        set_seed,
        set_up,
    )
    from tfllm.training.figures import (
        calibration,
        confusion_matrix,
        entity_confusion,
        precision_recall,
        scatter,
        tag_confusion,
    )
    from tfllm.training.folder import train_in_folder
    from tfllm.training.generation_report import GenerationReport
    from tfllm.training.join_windows import best_windows, join_words
    from tfllm.training.language_model import train_language_model
    from tfllm.training.language_model_report import LanguageModelReport
    from tfllm.training.loop import Trained, train
    from tfllm.training.masked_language_model_report import MaskedLanguageModelReport
    from tfllm.training.multi_task_report import MainMetric, MultiTaskReport
    from tfllm.training.prediction_lines import (
        class_lines,
        multi_label_lines,
        number_lines,
        tag_lines,
    )
    from tfllm.training.prompt_batches import generate_texts
    from tfllm.training.question_answers import BestAnswers, best_answers
    from tfllm.training.retrieval_report import Points, RetrievalReport
    from tfllm.training.row_predictor import RowPredictor, predict_rows
    from tfllm.training.run_estimate import Estimate, estimate
    from tfllm.training.task import train_task
    from tfllm.training.task_report import TaskReport
    from tfllm.training.text_classifier_report import classifier_figures, classifier_lines
    from tfllm.training.workers import Workers

__all__ = [
    "BestAnswers",
    "BestMetric",
    "Estimate",
    "GenerationReport",
    "LanguageModelReport",
    "MainMetric",
    "MaskedLanguageModelReport",
    "MultiTaskReport",
    "Points",
    "RetrievalReport",
    "RowPredictor",
    "TaskReport",
    "Trained",
    "Workers",
    "best_answers",
    "best_windows",
    "calibration",
    "check_batch",
    "class_lines",
    "classifier_figures",
    "classifier_lines",
    "confusion_matrix",
    "create_strategy",
    "entity_confusion",
    "estimate",
    "generate_texts",
    "join_words",
    "multi_label_lines",
    "number_lines",
    "precision_recall",
    "predict_rows",
    "scatter",
    "set_precision",
    "set_seed",
    "set_up",
    "tag_confusion",
    "tag_lines",
    "train",
    "train_in_folder",
    "train_language_model",
    "train_task",
]

_HOMES = {
    "BestAnswers": "question_answers",
    "BestMetric": "best_metric",
    "Estimate": "run_estimate",
    "GenerationReport": "generation_report",
    "LanguageModelReport": "language_model_report",
    "MainMetric": "multi_task_report",
    "MaskedLanguageModelReport": "masked_language_model_report",
    "MultiTaskReport": "multi_task_report",
    "Points": "retrieval_report",
    "RetrievalReport": "retrieval_report",
    "RowPredictor": "row_predictor",
    "TaskReport": "task_report",
    "Trained": "loop",
    "Workers": "workers",
    "best_answers": "question_answers",
    "best_windows": "join_windows",
    "calibration": "figures",
    "check_batch": "devices",
    "class_lines": "prediction_lines",
    "classifier_figures": "text_classifier_report",
    "classifier_lines": "text_classifier_report",
    "confusion_matrix": "figures",
    "create_strategy": "devices",
    "entity_confusion": "figures",
    "estimate": "run_estimate",
    "generate_texts": "prompt_batches",
    "join_words": "join_windows",
    "multi_label_lines": "prediction_lines",
    "number_lines": "prediction_lines",
    "precision_recall": "figures",
    "predict_rows": "row_predictor",
    "scatter": "figures",
    "set_precision": "devices",
    "set_seed": "devices",
    "set_up": "devices",
    "tag_confusion": "figures",
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
