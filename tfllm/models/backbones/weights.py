"""PyTorch's names for a backbone's weights, and the TensorFlow variables they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras
from transformers import TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.layers.lora import LoRA
from tfllm.models.backbones.families import family_of
from tfllm.models.backbones.family import Family, follow, present

__all__ = ["NamedWeight", "assign", "layer_weights", "pretrained_tensors", "weight_table"]


class NamedWeight(NamedTuple):
    """One weight: its PyTorch name, its variable, and how the two are laid out.

    Attributes:
        name: PyTorch's, within the main module: `encoder.layer.0.output.dense.weight`.
        variable: TensorFlow's.
        shape: PyTorch's.
        turned: whether PyTorch stores the matrix transposed.
        adapter: what changes the variable's numbers in the forward pass, if anything does.
    """

    name: str
    variable: tf.Variable
    shape: tuple[int, ...]
    turned: bool = False
    adapter: LoRA | None = None

    def read(self) -> np.ndarray:
        """Return the numbers that the forward pass computes with, in PyTorch's layout."""
        array = self.adapter.merged_kernel() if self.adapter else self.variable.numpy()
        return array.T if self.turned else array.reshape(self.shape)

    def write(self, array: np.ndarray) -> None:
        """Set the variable from numbers in PyTorch's layout."""
        array = np.asarray(array, dtype=self.variable.dtype.as_numpy_dtype)
        self.variable.assign(array.T if self.turned else array.reshape(self.variable.shape))


def weight_table(backbone: TFPreTrainedModel) -> list[NamedWeight]:
    """List a backbone's weights once each, in PyTorch's order and by its names.

    Read from left to right to save, from right to left to load.
    """
    family = family_of(backbone)
    main = family.main_layer(backbone)
    rows = []
    for part in family.outer:
        holder = present(main, part.attributes)
        if holder is not None:
            rows += layer_weights(part.torch, holder)
    for at, block in _named_blocks(family, main):
        for part in family.parts.values():
            rows += layer_weights(f"{at}.{part.torch}", follow(block, part.attributes))
    return rows


def _named_blocks(family: Family, main: Any) -> Iterator[tuple[str, Any]]:
    """Each block once, under its path in PyTorch."""
    found = [("", main)]
    for path in family.blocks:
        found = [
            (f"{at}{'.' if at else ''}{path}.{i}", block)
            for at, holder in found
            for i, block in enumerate(follow(holder, path))
        ]
    yield from found


def layer_weights(name: str, holder: tf.Variable | keras.layers.Layer) -> list[NamedWeight]:
    """Name the weights of a variable, a layer norm or a projection."""
    if isinstance(holder, tf.Variable):
        return [NamedWeight(name, holder, tuple(holder.shape))]
    if hasattr(holder, "gamma"):
        return [
            NamedWeight(f"{name}.weight", holder.gamma, tuple(holder.gamma.shape)),
            NamedWeight(f"{name}.bias", holder.beta, tuple(holder.beta.shape)),
        ]
    adapter = holder if isinstance(holder, LoRA) else None
    base = adapter.base if adapter else holder
    turned = hasattr(base, "kernel")  # transformers' `Conv1D` stores `[in, out]` in both
    kernel = base.kernel if turned else base.weight
    shape = tuple(kernel.shape)[:: -1 if turned else 1]
    rows = [NamedWeight(f"{name}.weight", kernel, shape, turned, adapter)]
    if getattr(base, "bias", None) is not None:
        rows.append(NamedWeight(f"{name}.bias", base.bias, (base.bias.shape[-1],)))
    return rows


def pretrained_tensors(
    backbone: TFPreTrainedModel, heads: Mapping[str, keras.layers.Layer | tf.Variable]
) -> dict[str, np.ndarray]:
    """Collect the weights of a backbone and its heads as PyTorch's classes have them.

    Args:
        backbone: adapters on it are folded in.
        heads: PyTorch's name → a `Dense` or a variable: `{"classifier": dense}`. With none of
            them the names are those of the bare `AutoModel`, without a prefix.

    Returns:
        PyTorch name → array in PyTorch's layout.
    """
    prefix = f"{backbone.base_model_prefix}." if heads else ""
    tensors = {prefix + row.name: row.read() for row in weight_table(backbone)}
    for name, head in heads.items():
        tensors |= {row.name: row.read() for row in layer_weights(name, head)}
    return tensors


def assign(
    rows: list[NamedWeight],
    tensors: Mapping[str, np.ndarray],
    *,
    source: str,
    optional: tuple[str, ...] = (),
) -> None:
    """Set every variable of the table from `tensors`, or none of them.

    Args:
        rows: from `weight_table`.
        tensors: PyTorch name → array; what is no row is passed over.
        source: where the tensors came from, for messages.
        optional: beginnings of names that may be missing.

    Raises:
        InputError: if a weight is missing or has another shape.
    """
    missing = [r.name for r in rows if r.name not in tensors and not r.name.startswith(optional)]
    if missing:
        raise InputError(
            f"{source} lacks {len(missing)} of {len(rows)} weights of this backbone, the first are "
            f"{', '.join(missing[:3])}. It holds {len(tensors)} tensors, for example "
            f"{min(tensors, default='none')}. Does config.json belong to these weights?"
        )
    rows = [row for row in rows if row.name in tensors]
    for row in rows:
        if tuple(tensors[row.name].shape) != row.shape:
            raise InputError(
                f"{row.name} in {source} has the shape {list(tensors[row.name].shape)}, and "
                f"config.json asks for {list(row.shape)}. Does config.json belong to these weights?"
            )
    for row in rows:
        row.write(tensors[row.name])
