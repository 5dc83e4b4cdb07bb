"""Learning rates over time and over depth, AdamW, and the average of weights.

A name is imported when it is first asked for: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.optimization.compilation import compile_model
    from tfllm.optimization.creation import create_optimizer
    from tfllm.optimization.layer_depth import depth_by_name, layer_multipliers
    from tfllm.optimization.layerwise_adamw import LayerwiseAdamW, adamw, is_matrix
    from tfllm.optimization.schedules import WarmUpSchedule, learning_rate_schedule, warmup_cosine
    from tfllm.optimization.weight_average import average_in_place, weights_to_measure

__all__ = [
    "LayerwiseAdamW",
    "WarmUpSchedule",
    "adamw",
    "average_in_place",
    "compile_model",
    "create_optimizer",
    "depth_by_name",
    "is_matrix",
    "layer_multipliers",
    "learning_rate_schedule",
    "warmup_cosine",
    "weights_to_measure",
]

_HOMES = {
    "LayerwiseAdamW": "layerwise_adamw",
    "WarmUpSchedule": "schedules",
    "adamw": "layerwise_adamw",
    "average_in_place": "weight_average",
    "compile_model": "compilation",
    "create_optimizer": "creation",
    "depth_by_name": "layer_depth",
    "is_matrix": "layerwise_adamw",
    "layer_multipliers": "layer_depth",
    "learning_rate_schedule": "schedules",
    "warmup_cosine": "schedules",
    "weights_to_measure": "weight_average",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
