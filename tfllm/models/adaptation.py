"""How much of a pretrained model is trained: all of it, its upper part, or adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tf_keras as keras

from tfllm.models.freezing import freeze_below
from tfllm.models.lora import apply_lora
from tfllm.models.task_adapters import apply_lora_by_task
from tfllm.models.trainable import trainable_share

__all__ = ["adapt"]


def adapt(
    model: keras.Model,
    *,
    freeze_layers: int | None = None,
    lora: Mapping[str, Any] | None = None,
    heads: Sequence[str] = (),
    by_task: bool = False,
) -> str:
    """Freeze what is not to be trained, before the optimizer is made.

    Args:
        model: with a backbone.
        freeze_layers: see `freeze_below`; None to freeze nothing.
        lora: `rank`, `alpha`, `dropout` and `targets` of `apply_lora`; None for no adapters.
        heads: attributes of the model that train beside adapters.
        by_task: whether each task of a `MultiTaskModel` gets adapters of its own.

    Returns:
        what trains, in one line for people; empty where all does.

    Raises:
        InputError: if there are fewer blocks, or adapters can't be put where they should be.
    """
    if freeze_layers is not None:
        freeze_below(model, freeze_layers)
        return f"{trainable_share(model)}."
    if lora is not None:
        apply = apply_lora_by_task if by_task else apply_lora
        return f"LoRA: {apply(model, heads=heads, seed=model.seed, **lora)}."
    return ""
