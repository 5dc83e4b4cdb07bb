"""A folder of transformers → a backbone with its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from transformers import CONFIG_MAPPING, PretrainedConfig, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.models import checkpoint_files
from tfllm.models.backbones.families import FAMILIES, family_of
from tfllm.models.backbones.forward import create_backbone
from tfllm.models.backbones.reading import read_tensors
from tfllm.models.backbones.weights import NamedWeight, assign, layer_weights, weight_table

__all__ = ["load_backbone", "load_config", "load_heads"]

# Other names for an architecture of the table: name → the table's.
_SAME_AS = {"ernie": "bert"}


def load_backbone(
    name_or_folder: str | Path, *, pickle: bool = False, **config_changes: Any
) -> TFPreTrainedModel:
    """Load a backbone from a transformers folder or from the hub; torch need not be installed.

    Heads that the file holds are passed over; see `load_heads`.

    Args:
        name_or_folder: with `config.json` and `model.safetensors` (whole or in shards),
            `tf_model.h5` or `pytorch_model.bin`, in this order.
        pickle: whether `pytorch_model.bin` may be read, which needs torch.
        **config_changes: settings of the configuration to change, for example
            `hidden_dropout_prob=0.0`.

    Returns:
        The bare TF model of transformers, built.

    Raises:
        InputError: if the family is unknown, weights are missing, damaged or of another shape.
    """
    config = load_config(name_or_folder, **config_changes)
    tensors = read_tensors(name_or_folder, pickle=pickle)
    backbone = create_backbone(config)
    pooler = family_of(backbone).pooler
    rows = weight_table(backbone)
    assign(
        rows,
        _within_main(tensors, rows, backbone.base_model_prefix),
        source=str(name_or_folder),
        optional=(f"{pooler.torch}.",) if pooler else (),
    )
    return backbone


def load_config(name_or_folder: str | Path, **changes: Any) -> PretrainedConfig:
    """Read `config.json` of a family that is known.

    Raises:
        InputError: if it is missing, not JSON, or of an unknown family.
        ValueError: if a change names no setting.
    """
    path = checkpoint_files.find(name_or_folder, "config.json")
    if path is None:
        raise InputError(
            f"{name_or_folder} holds no config.json, so it is not a transformers folder"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    found = settings.get("model_type") if isinstance(settings, dict) else None
    kind = _SAME_AS.get(found or "", found)
    if kind not in FAMILIES:
        inside = Path(name_or_folder) / "model"
        if found is None and inside.is_dir():
            raise InputError(f"{name_or_folder} is no transformers folder. Did you mean {inside}?")
        raise InputError(
            f"{path} is of the type {found!r}, which is not supported. "
            f"Known are: {', '.join([*FAMILIES, *_SAME_AS])}"
        )
    if found != kind and settings.pop("use_task_id", False):
        raise InputError(f"{path} asks for task ids (use_task_id), which are not supported")
    config = CONFIG_MAPPING[kind].from_dict(settings | {"model_type": kind})
    for name, value in changes.items():
        if not hasattr(config, name):
            raise ValueError(f"{type(config).__name__} has no setting {name!r}")
        setattr(config, name, value)
    return config


def load_heads(
    source: str | Path | Mapping[str, np.ndarray],
    heads: Mapping[str, keras.layers.Layer | tf.Variable],
    *,
    pickle: bool = False,
) -> set[str]:
    """Set the heads that a folder holds.

    Args:
        source: a transformers folder or name, or tensors by PyTorch's names.
        heads: PyTorch's name → a built `Dense` or a variable, as in `pretrained_tensors`.
        pickle: see `load_backbone`.

    Returns:
        The names of the heads that were found, with all their weights and of the same shapes;
        the others are left as they were.
    """
    if not isinstance(source, Mapping):
        source = read_tensors(source, pickle=pickle)
    found = set()
    for name, head in heads.items():
        rows = layer_weights(name, head)
        arrays = [_head_array(source, row) for row in rows]
        if all(a is not None and a.shape == r.shape for a, r in zip(arrays, rows, strict=True)):
            for row, array in zip(rows, arrays, strict=True):
                assert array is not None
                row.write(array)
            found.add(name)
    return found


def _head_array(tensors: Mapping[str, np.ndarray], row: NamedWeight) -> np.ndarray | None:
    if row.name in tensors:
        return tensors[row.name]
    stem, _, last = row.name.rpartition(".")
    keras_name = f"{stem.replace('.', '/')}/{'kernel' if last == 'weight' else last}"
    array = tensors.get(keras_name)
    return array.T if array is not None and row.turned else array


def _within_main(
    tensors: Mapping[str, np.ndarray], rows: list[NamedWeight], prefix: str
) -> dict[str, np.ndarray]:
    """Bring names to what they are within the main module, and Keras's to PyTorch's."""
    starts = tuple(f"{name}." for name in (prefix, *_SAME_AS))
    found = {}
    for name, array in tensors.items():
        start = next((start for start in starts if name.startswith(start)), "")
        found[name.removeprefix(start)] = array
    for row in rows:
        keras_name = row.variable.name.split("/", 1)[1].removesuffix(":0")
        if keras_name in tensors and row.name not in found:
            array = tensors[keras_name]
            found[row.name] = array.T if row.turned else array.reshape(row.shape)
    return found
