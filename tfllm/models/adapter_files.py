"""Adapters saved alone, kilobytes, in the files and names of the PEFT library.

```
FOLDER/
├── adapter_config.json          rank, alpha, and the projections by their paths
└── adapter_model.safetensors    lora_A `[r, in]` and lora_B `[out, r]` of each, and heads
```
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError
from tfllm.layers.lora import kernel_of
from tfllm.models import checkpoint_files
from tfllm.models.causal_lm import CausalLM
from tfllm.models.lora import Adapter, adapters_of, head_of, trained_heads, wrap
from tfllm.models.projections import Projection, family_of, projections
from tfllm.models.trainable import TrainableShare, trainable_share

__all__ = ["load_adapters", "save_adapters"]

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_ROOT = "base_model.model."

# What a PEFT configuration may say beside rank and alpha. Any other setting that is not empty
# changes what the adapters compute, and is refused.
_HARMLESS = {
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
}
_ONLY: dict[str, list[Any]] = {
    "bias": ["none"],
    "init_lora_weights": [True, False, None, "gaussian"],
}


class _Saved(NamedTuple):
    """What a folder of adapters holds.

    Attributes:
        source: for messages.
        rank: of all adapters.
        alpha: of all adapters.
        dropout: that they were trained with.
        pairs: path of a projection → A `[r, in]` and B `[out, r]`.
        heads: name of a head → name of a weight → array.
    """

    source: str
    rank: int
    alpha: float
    dropout: float
    pairs: dict[str, dict[str, np.ndarray]]
    heads: dict[str, dict[str, np.ndarray]]


def save_adapters(
    model: keras.Model, folder: str | Path, *, base_name: str = "", overwrite: bool = False
) -> None:
    """Write a model's adapters, and the heads that train beside them, without the base.

    The names of the weights are those that the PEFT library gives them for the PyTorch class:
    with `transformer.` or `bert.` in front for a model with a head, without for a bare backbone.
    A head that is one matrix (`lm_head`) is named as there too; layers keep TensorFlow's names.

    Args:
        model: what was given to `apply_lora`.
        folder: a new one; it appears whole or not at all.
        base_name: name or folder of the model that the adapters belong to, for the reader.
        overwrite: replace a folder that exists.

    Raises:
        InputError: if the model has no adapters, or the folder exists or can't be written.
    """
    found = adapters_of(model)
    if not found:
        raise InputError("the model has no adapters to save. Put some on it with apply_lora")
    heads = trained_heads(model)
    tensors: dict[str, np.ndarray] = {}
    for projection, layer in found:
        at = f"{_root(model)}{projection.path}"
        tensors[f"{at}.lora_A.weight"] = layer.lora_a.numpy().T
        tensors[f"{at}.lora_B.weight"] = layer.lora_b.numpy().T
    for name, head in heads.items():
        for weight, variable in _weights_of(head).items():
            tensors[f"{_ROOT}{name}.{weight}"] = variable.numpy()
    checkpoint_files.write_folder(
        folder,
        _config(model, found, list(heads), base_name),
        tensors,
        None,
        overwrite=overwrite,
        names=(_CONFIG, _WEIGHTS),
    )


def load_adapters(model: keras.Model, name_or_folder: str | Path) -> TrainableShare:
    """Put saved adapters on a model, or into the same adapters that it has.

    A plain model is treated as `apply_lora` treats it. The dropout of the adapters is the saved
    one where the forward pass can draw it again, else 0.

    Args:
        model: the base that the adapters were trained on; nothing tells it from another model of
            the same shapes.
        name_or_folder: from `save_adapters`, or from the PEFT library for the same base.

    Returns:
        How much of the model trains.

    Raises:
        InputError: if the folder holds no adapters, or they are of another base or another kind;
            the model is then as it was.
    """
    saved = _read(model, name_or_folder)
    chosen = _check_pairs(model, saved)
    _check_heads(model, saved)
    present = adapters_of(model)
    if present:
        _compare(present, saved)
    else:
        wrap(
            model,
            chosen,
            rank=saved.rank,
            alpha=saved.alpha,
            dropout=saved.dropout if family_of(model).seeded_dropout else 0.0,
            heads=list(saved.heads),
            seed=0,
        )
    for projection, layer in adapters_of(model):
        layer.lora_a.assign(saved.pairs[projection.path]["A"].T)
        layer.lora_b.assign(saved.pairs[projection.path]["B"].T)
    for name, weights in saved.heads.items():
        for weight, variable in _weights_of(head_of(model, name)).items():
            variable.assign(weights[weight])
    return trainable_share(model)


def _root(model: keras.Model) -> str:
    """What stands before a projection's path in the names of the PyTorch class."""
    if type(model).__name__ == family_of(model).bare:
        return _ROOT
    return f"{_ROOT}{getattr(model, 'backbone', model).base_model_prefix}."


def _weights_of(head: keras.layers.Layer | tf.Variable) -> dict[str, tf.Variable]:
    """A head's variables by the names they are saved under."""
    if isinstance(head, tf.Variable):
        return {"weight": head}
    named = {
        v.name.partition(":")[0].rpartition(f"{head.name}/")[2].replace("/", "."): v
        for v in head.weights
    }
    if len(named) != len(head.weights):
        raise ValueError(f"two weights of the head {head.name} have one name: {sorted(named)}")
    return named


def _config(
    model: keras.Model, found: Sequence[Adapter], heads: list[str], base_name: str
) -> dict[str, Any]:
    first = found[0].layer
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if isinstance(model, CausalLM) else None,
        "base_model_name_or_path": base_name or None,
        "inference_mode": True,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "target_modules": [adapter.projection.path for adapter in found],
        "fan_in_fan_out": family_of(model).input_first,
        "bias": "none",
        "modules_to_save": heads or None,
    }


def _read(model: keras.Model, name_or_folder: str | Path) -> _Saved:
    paths = [checkpoint_files.find(name_or_folder, name) for name in (_CONFIG, _WEIGHTS)]
    if paths[0] is None or paths[1] is None:
        raise InputError(
            f"{name_or_folder} is no folder of adapters: it must hold {_CONFIG} and {_WEIGHTS}"
        )
    config = _read_config(paths[0])
    tensors = checkpoint_files.read_safetensors(paths[1])
    pattern = rf"(?:.*\.)?({family_of(model).blocks}\.\d+\..+)\.lora_([AB])(?:\.default)?\.weight"
    pairs: dict[str, dict[str, np.ndarray]] = {}
    heads: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        match = re.fullmatch(pattern, name)
        if match:
            pairs.setdefault(match[1], {})[match[2]] = array
        else:
            head, _, weight = name.removeprefix(_ROOT).partition(".")
            heads.setdefault(head, {})[weight] = array
    return _Saved(
        source=str(paths[1]),
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout") or 0.0,
        pairs=pairs,
        heads=heads,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InputError(f"{path} describes no LoRA adapters: its peft_type must be 'LORA'")
    for name, kind in (("r", int), ("lora_alpha", (int, float))):
        if not isinstance(config.get(name), kind):
            raise InputError(f"{path}: {name} must be a number. Received: {config.get(name)!r}")
    for name, value in sorted(config.items()):
        fine = value in _ONLY[name] if name in _ONLY else not value or name in _HARMLESS
        if not fine:
            raise InputError(
                f"{path}: {name}={value!r} makes adapters of a kind that is not supported here; "
                "only plain LoRA is. Merge them into their base with the PEFT library"
            )
    return config


def _check_pairs(model: keras.Model, saved: _Saved) -> list[Projection]:
    """The projections that the adapters belong on, every shape seen to fit."""
    if not saved.pairs:
        raise InputError(f"{saved.source} holds no adapters of a {family_of(model).name}")
    known = {projection.path: projection for projection in projections(model)}
    for path, pair in saved.pairs.items():
        if path not in known:
            raise InputError(
                f"{saved.source} has an adapter for {path}, and this {family_of(model).name} has "
                f"no such projection: it ends with {list(known)[-1]}. Load the adapters' own base"
            )
        inputs, outputs = kernel_of(known[path].layer).shape
        wanted = {"A": (saved.rank, inputs), "B": (outputs, saved.rank)}
        for part, shape in wanted.items():
            received = list(pair[part].shape) if part in pair else "nothing"
            if received != list(shape):
                raise InputError(
                    f"{path}.lora_{part} in {saved.source} must have the shape {list(shape)} to "
                    f"fit this {family_of(model).name}. Received: {received}. Load the adapters' "
                    "own base"
                )
    return [projection for path, projection in known.items() if path in saved.pairs]


def _check_heads(model: keras.Model, saved: _Saved) -> None:
    for name, weights in saved.heads.items():
        wanted = _shapes(_weights_of(head_of(model, name)))
        if _shapes(weights) != wanted:
            raise InputError(
                f"{saved.source} has the head {name} with the weights {_shapes(weights)}, and "
                f"this model's has {wanted}"
            )


def _shapes(weights: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: list(weight.shape) for name, weight in sorted(weights.items())}


def _compare(present: Sequence[Adapter], saved: _Saved) -> None:
    """See that the model's adapters are those that were saved."""
    layer = present[0].layer
    ours = (layer.rank, layer.alpha, sorted(adapter.projection.path for adapter in present))
    theirs = (saved.rank, saved.alpha, sorted(saved.pairs))
    if ours != theirs:
        raise InputError(
            f"the model has {len(ours[2])} adapters of rank {ours[0]} and alpha {ours[1]}, and "
            f"{saved.source} has {len(theirs[2])} of rank {theirs[0]} and alpha {theirs[1]}, or on "
            "other projections. Load them into the plain base, or merge the model's first"
        )
