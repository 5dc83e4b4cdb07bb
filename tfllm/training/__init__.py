"""Training around `model.fit`: one exact step, devices, checkpoints, monitoring.

A name is imported when it is first asked for: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.training.best_metric import BestMetric
    from tfllm.training.devices import check_batch, create_strategy, set_precision, set_seed
    from tfllm.training.estimate import Estimate, estimate
    from tfllm.training.folder import train_in_folder
    from tfllm.training.language_model import train_language_model
    from tfllm.training.language_model_report import LanguageModelReport
    from tfllm.training.loop import Trained, train
    from tfllm.training.workers import Workers

__all__ = [
    "BestMetric",
    "Estimate",
    "LanguageModelReport",
    "Trained",
    "Workers",
    "check_batch",
    "create_strategy",
    "estimate",
    "set_precision",
    "set_seed",
    "train",
    "train_in_folder",
    "train_language_model",
]

_HOMES = {
    "BestMetric": "best_metric",
    "Estimate": "estimate",
    "Workers": "workers",
    "estimate": "estimate",
    "LanguageModelReport": "language_model_report",
    "Trained": "loop",
    "check_batch": "devices",
    "create_strategy": "devices",
    "set_precision": "devices",
    "set_seed": "devices",
    "train": "loop",
    "train_in_folder": "folder",
    "train_language_model": "language_model",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
