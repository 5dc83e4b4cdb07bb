"""Transformers folders: find them, read their weights, write them whole.

Only safetensors are read: no pickle, no code from the folder, and torch need not be installed.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.errors import InputError
from tfllm.hub import hub_file

__all__ = [
    "check_weights",
    "find",
    "read_config",
    "read_safetensors",
    "read_weights",
    "write_folder",
]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def read_config(name_or_folder: str | Path, model_type: str) -> dict[str, Any]:
    """Read `config.json` and see that it is of the family `model_type`.

    Raises:
        InputError: if there is none, it is not JSON, or it is of another architecture.
    """
    path = find(name_or_folder, "config.json")
    if path is None:
        raise InputError(
            f"{name_or_folder} holds no config.json, so it is not a transformers folder"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != model_type:
        raise InputError(
            f"{name_or_folder} holds a model of the type {found!r} ({path.name}), and this needs "
            f"{model_type!r}. Give a {model_type} checkpoint"
        )
    return config


def check_weights(name_or_folder: str | Path) -> None:
    """See that there are weights to read, without reading them.

    Raises:
        InputError: if there are none.
    """
    if not any(find(name_or_folder, name) for name in (_WEIGHTS, _INDEX)):
        raise InputError(_no_weights(name_or_folder))


def read_weights(name_or_folder: str | Path) -> dict[str, np.ndarray]:
    """Read `model.safetensors`, or the shards that its index lists: name → array.

    bfloat16 and float16 come as float32.

    Raises:
        InputError: if there is none, or a file is damaged.
    """
    whole = find(name_or_folder, _WEIGHTS)
    if whole is not None:
        return read_safetensors(whole)
    index = find(name_or_folder, _INDEX)
    if index is None:
        raise InputError(_no_weights(name_or_folder))
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{index} can't be read as an index of weights: {error!r}") from error
    tensors: dict[str, np.ndarray] = {}
    for shard in shards:
        path = find(name_or_folder, Path(shard).name)
        if path is None:
            raise InputError(f"{index} names {shard}, which is not there")
        tensors.update(read_safetensors(path))
    return tensors


def _no_weights(name_or_folder: str | Path) -> str:
    message = f"{name_or_folder} holds no weights: {_WEIGHTS} is missing"
    folder = Path(name_or_folder)
    if folder.is_dir() and list(folder.glob("*.bin")):
        message += (
            ". Its *.bin files are pickles, which run code when read; open the model with "
            "transformers and save it again to get safetensors"
        )
    return message


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read one file: name → array; bfloat16 and float16 come as float32.

    Raises:
        InputError: if it is damaged.
    """
    import safetensors.tensorflow
    import tensorflow as tf

    try:
        with tf.device("CPU"):
            tensors = safetensors.tensorflow.load_file(str(path))
    except Exception as error:  # safetensors raises its own type for every kind of damage
        raise InputError(f"{path} can't be read as safetensors: {error}") from error
    half = (tf.bfloat16, tf.float16)
    return {
        name: (tf.cast(tensor, tf.float32) if tensor.dtype in half else tensor).numpy()
        for name, tensor in tensors.items()
    }


def find(name_or_folder: str | Path, file_name: str) -> Path | None:
    """Find a file of a local folder or of a hub repository; None where it does not exist.

    Raises:
        InputError: if there is no such folder, or the hub can't be asked.
    """
    folder = Path(name_or_folder)
    # `os.path`, since `Path` raises for names that are too long or lie in closed folders.
    if os.path.isdir(folder):
        return folder / file_name if os.path.isfile(folder / file_name) else None
    if folder.is_absolute() or str(name_or_folder).startswith((f".{os.sep}", f"..{os.sep}")):
        if not os.path.exists(folder):
            raise InputError(f"there is no folder {name_or_folder}. Give a transformers folder")
    if os.path.exists(folder) or os.sep in str(name_or_folder).strip(os.sep).replace("/", "", 1):
        raise InputError(f"{name_or_folder} is not a folder. Give a transformers folder")
    return hub_file(str(name_or_folder), file_name)


def write_folder(
    folder: str | Path,
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    tokenizer: Any,
    *,
    overwrite: bool = False,
    names: tuple[str, str] = ("config.json", _WEIGHTS),
) -> None:
    """Write a transformers folder under a hidden name and rename it when it is whole.

    Args:
        folder: must not exist yet or be empty, unless `overwrite` says otherwise.
        config: what goes into the first of `names`.
        weights: PyTorch name → array, for the second of `names`.
        tokenizer: its `save(folder)` adds its files; None for no tokenizer.
        overwrite: replace what the folder holds.
        names: of the file of JSON and of the file of safetensors.

    Raises:
        InputError: if the folder exists, or can't be written.
    """
    import safetensors.numpy

    target = Path(folder)
    if not overwrite and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists already. Give a new folder; nothing is overwritten")
    hidden = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        hidden.mkdir(parents=True)
        text = json.dumps(dict(config), indent=2, sort_keys=True) + "\n"
        config_path, weights_path = (hidden / name for name in names)
        config_path.write_text(text, encoding="utf-8")
        # PyTorch's transformers refuses a file that does not say which framework wrote it.
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(array) for name, array in weights.items()},
            weights_path,
            metadata={"format": "pt"},
        )
        # safetensors makes the file for its owner alone.
        weights_path.chmod(config_path.stat().st_mode)
        if tokenizer is not None:
            tokenizer.save(hidden)
        if overwrite:
            shutil.rmtree(target, ignore_errors=True)
        hidden.rename(target)
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
