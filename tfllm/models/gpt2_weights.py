"""PyTorch's names for GPT-2's weights and the TensorFlow variables they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from transformers import TFGPT2Model

from tfllm.errors import InputError
from tfllm.layers.lora import LoRA

__all__ = ["NamedWeight", "assign_weights", "collect_weights", "weight_table"]

# Buffers and heads that checkpoints of GPT-2 carry beside the weights of the language model.
_IGNORED_ENDINGS = (".attn.bias", ".attn.masked_bias")
_PREFIX = "transformer."


class NamedWeight(NamedTuple):
    """One weight: its PyTorch name, its variable, and its shape in PyTorch.

    The numbers lie in the same order in both; only a bias is `[1, n]` in TensorFlow and `[n]` in
    PyTorch (transformers' `Conv1D` stores `[in, out]` matrices in both).

    Attributes:
        name: PyTorch's.
        variable: TensorFlow's.
        shape: PyTorch's.
        adapter: what changes the variable's numbers in the forward pass, if anything does.
    """

    name: str
    variable: tf.Variable
    shape: tuple[int, ...]
    adapter: LoRA | None = None

    def read(self) -> np.ndarray:
        """Return the numbers that the forward pass computes with, in PyTorch's shape."""
        array = self.adapter.merged_kernel() if self.adapter else self.variable.numpy()
        return array.reshape(self.shape)


def weight_table(backbone: TFGPT2Model, lm_head: tf.Variable | None = None) -> list[NamedWeight]:
    """List every weight once, in PyTorch's order; `lm_head` only where it is not tied.

    The same table is read from left to right to save and from right to left to load.
    """
    main = backbone.transformer
    rows = [
        _row("transformer.wte.weight", main.wte.embeddings),
        _row("transformer.wpe.weight", main.wpe.embeddings),
    ]
    for i, block in enumerate(main.h):
        at = f"transformer.h.{i}"
        for norm in ("ln_1", "ln_2"):
            rows.append(_row(f"{at}.{norm}.weight", getattr(block, norm).gamma))
            rows.append(_row(f"{at}.{norm}.bias", getattr(block, norm).beta))
        for part, layer in (
            ("attn.c_attn", block.attn.c_attn),
            ("attn.c_proj", block.attn.c_proj),
            ("mlp.c_fc", block.mlp.c_fc),
            ("mlp.c_proj", block.mlp.c_proj),
        ):
            adapter = layer if isinstance(layer, LoRA) else None
            base = adapter.base if adapter else layer
            rows.append(_row(f"{at}.{part}.weight", base.weight)._replace(adapter=adapter))
            rows.append(_row(f"{at}.{part}.bias", base.bias))
    rows.append(_row("transformer.ln_f.weight", main.ln_f.gamma))
    rows.append(_row("transformer.ln_f.bias", main.ln_f.beta))
    if lm_head is not None:
        rows.append(_row("lm_head.weight", lm_head))
    return rows


def _row(name: str, variable: tf.Variable) -> NamedWeight:
    shape = tuple(variable.shape)
    return NamedWeight(name, variable, shape[1:] if len(shape) == 2 and shape[0] == 1 else shape)


def collect_weights(table: list[NamedWeight]) -> dict[str, np.ndarray]:
    """Read the weights into arrays of PyTorch's names and shapes, adapters folded in."""
    return {row.name: row.read() for row in table}


def assign_weights(
    table: list[NamedWeight], tensors: Mapping[str, np.ndarray], *, source: str
) -> None:
    """Set every variable of the table from `tensors`, or none of them.

    Names may lack the leading `transformer.`, as in the checkpoints of the bare `GPT2Model`.

    Args:
        table: from `weight_table`.
        tensors: PyTorch name → array.
        source: where the tensors came from, for messages.

    Raises:
        InputError: if a weight is missing, has another shape, or is not GPT-2's.
    """
    found = {_full_name(name): array for name, array in tensors.items()}
    missing = [row.name for row in table if row.name not in found]
    if missing:
        raise InputError(
            f"{source} lacks {len(missing)} of {len(table)} weights of this GPT-2, the first is "
            f"{missing[0]}. It holds {len(found)} tensors, for example {min(found, default='none')}"
        )
    known = {row.name for row in table} | {"lm_head.weight"}
    unknown = sorted(n for n in found if n not in known and not n.endswith(_IGNORED_ENDINGS))
    if unknown:
        raise InputError(
            f"{source} holds {len(unknown)} tensors that are no weights of this GPT-2, for example "
            f"{unknown[0]}. Does config.json beside it belong to it?"
        )
    for row in table:
        if tuple(found[row.name].shape) != row.shape:
            raise InputError(
                f"{row.name} in {source} has shape {list(found[row.name].shape)}, and config.json "
                f"asks for {list(row.shape)}. Does config.json belong to these weights?"
            )
    for row in table:
        array = np.asarray(found[row.name], dtype=row.variable.dtype.as_numpy_dtype)
        row.variable.assign(array.reshape(row.variable.shape))


def _full_name(name: str) -> str:
    return name if name.startswith((_PREFIX, "lm_head.")) else _PREFIX + name
