"""Reading the weights of a transformers folder, whichever framework wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfllm.errors import InputError
from tfllm.models import checkpoint_files

__all__ = ["read_tensors"]

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_KERAS = "tf_model.h5"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def read_tensors(name_or_folder: str | Path, *, pickle: bool = False) -> dict[str, np.ndarray]:
    """Read `model.safetensors`, `tf_model.h5` or, if that is wished, `pytorch_model.bin`.

    Args:
        name_or_folder: of the hub, or a local folder.
        pickle: whether `pytorch_model.bin` may be read. It is read without running code from it,
            but by a format that was made to run code; torch must be installed.

    Returns:
        Name → array. PyTorch's names and layout from PyTorch's files, with `weight` and `bias`
        for what old files call `gamma` and `beta`; from Keras's files the variables' names
        without the model's: `bert/pooler/dense/kernel`.

    Raises:
        InputError: if there are no weights, they are damaged, or only pickles and those not wished.
    """
    if any(checkpoint_files.find(name_or_folder, name) for name in _SAFE):
        return _modern(checkpoint_files.read_weights(name_or_folder))
    keras_file = checkpoint_files.find(name_or_folder, _KERAS)
    if keras_file is not None:
        return _read_keras(keras_file)
    pickles = [checkpoint_files.find(name_or_folder, name) for name in _PICKLES]
    if not any(pickles):
        raise InputError(
            f"{name_or_folder} holds no weights: none of {_SAFE[0]}, {_KERAS}, {_PICKLES[0]}"
        )
    if not pickle:
        raise InputError(
            f"{name_or_folder} holds its weights as a pickle alone ({_PICKLES[0]}), a format that "
            "can run code when it is read. If you trust it, give --allow_pickle"
        )
    whole, index = pickles
    paths = [whole] if whole is not None else _shards(name_or_folder, index)
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
        tensors.update(_read_pickle(path))
    return _modern(tensors)


def _modern(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    renamed = {}
    for name, array in tensors.items():
        # TensorFlow's classes write their variables' names into safetensors as they are.
        stem, _, last = name.removesuffix(":0").rpartition(".")
        last = {"gamma": "weight", "beta": "bias"}.get(last, last)
        renamed[f"{stem}.{last}" if stem else last] = array
    return renamed


def _read_keras(path: Path) -> dict[str, np.ndarray]:
    import h5py  # type: ignore[import-untyped]

    tensors: dict[str, np.ndarray] = {}

    def take(name: str, found: object) -> None:
        # group of a layer / name of the model / the variable's own path
        if isinstance(found, h5py.Dataset) and name.count("/") > 1:
            tensors[name.split("/", 2)[2].removesuffix(":0")] = np.asarray(found)

    try:
        with h5py.File(path) as file:
            file.visititems(take)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} can't be read as Keras's HDF5: {error}") from error
    return tensors


def _shards(name_or_folder: str | Path, index: Path | None) -> list[Path]:
    assert index is not None
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{index} can't be read as an index of weights: {error!r}") from error
    found = {name: checkpoint_files.find(name_or_folder, Path(name).name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise InputError(f"{index} names {missing[0]}, which is not there")
    return [path for path in found.values() if path is not None]


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise InputError(
            f"{path} is a pickle of PyTorch's and needs torch, which is not installed. Install it, "
            "or save the model as safetensors"
        ) from error
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in tensors.items()}
    except Exception as error:  # torch raises many types for damage and for code in a pickle
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise InputError(f"{path} can't be read as weights of PyTorch: {reason}") from error
