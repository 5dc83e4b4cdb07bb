"""A backbone and its heads → a folder that PyTorch's transformers load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras
from transformers import TFPreTrainedModel

from tfllm.models import checkpoint_files
from tfllm.models.backbones.families import family_of
from tfllm.models.backbones.weights import pretrained_tensors

__all__ = ["save_folder", "without_head"]

_OF_HEADS = {"id2label", "label2id", "num_labels", "problem_type"}
# Classes that `AutoModelFor…` picks under another name than family + task.
_OTHER_CLASSES = {"XLNetForQuestionAnswering": "XLNetForQuestionAnsweringSimple"}


def save_folder(
    folder: str | Path,
    backbone: TFPreTrainedModel,
    heads: Mapping[str, keras.layers.Layer | tf.Variable],
    *,
    task: str | None = None,
    tokenizer: Any = None,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer's files, all or nothing.

    Args:
        folder: a new one; it appears whole or not at all.
        backbone: adapters on it are folded in.
        heads: see `pretrained_tensors`.
        task: `SequenceClassification`, `TokenClassification` or `QuestionAnswering`, for which
            `AutoModelFor…` loads the folder; None for the bare `AutoModel`.
        tokenizer: a `tfllm.text.Tokenizer`; None for none.
        overwrite: replace a folder that exists.
        settings: of `config.json`, beside the backbone's own: `id2label`, `problem_type`, ….

    Raises:
        InputError: if the folder exists or can't be written.
    """
    stem = family_of(backbone).model.removeprefix("TF").removesuffix("Model")
    name = f"{stem}For{task}" if task else f"{stem}Model"
    config = without_head(backbone.config.to_diff_dict()) | {
        "architectures": [_OTHER_CLASSES.get(name, name)],
        **(settings or {}),
    }
    weights = pretrained_tensors(backbone, heads)
    checkpoint_files.write_folder(folder, config, weights, tokenizer, overwrite=overwrite)


def without_head(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a configuration says of a head: that of the folder it came from, say."""
    return {
        name: value
        for name, value in config.items()
        if name not in _OF_HEADS and not name.startswith("tfllm_")
    }
