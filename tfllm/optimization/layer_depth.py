"""Lower learning rates for layers nearer to the input."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import tensorflow as tf

from tfllm.errors import InputError

__all__ = ["depth_by_name", "layer_multipliers"]

# transformers' names of the i-th block: `h_._i` in GPT-2, `layer_._i` in BERT, its kin and XLNet.
_BLOCK = re.compile(r"(?:h|layer)_\._(\d+)")
_EMBEDDINGS = {"embeddings", "embeddings_project", "word_embedding", "wte", "wpe"}
_SHARED_BLOCKS = "albert_layer_groups_._"


def layer_multipliers(
    variables: Iterable[tf.Variable],
    *,
    num_layers: int,
    decay: float,
    depth_of: Callable[[tf.Variable], int | None] | None = None,
) -> list[float]:
    """Give each variable a factor for its learning rate: `decay ** (num_layers + 1 - depth)`.

    So what lies above the blocks (a head, a pooler, the last layer norm) has 1, the last block
    `decay`, the first block `decay ** num_layers`, the embeddings `decay ** (num_layers + 1)`. A
    head that is tied to the embeddings learns as they do.

    Args:
        variables: those that will be trained, in the order in which the optimizer is built.
        num_layers: blocks of the backbone.
        decay: above 0 and at most 1; 1 gives all the same rate. Papers use 0.65 to 0.95.
        depth_of: variable → 0 for embeddings, i + 1 for block i, None above the blocks; None for
            `depth_by_name`.

    Raises:
        InputError: if `decay` is out of range.
        ValueError: if a depth is out of range, or all variables lie above the blocks: then
            `depth_of` does not know their names, and nothing would be slowed down.

    Example:
        With 2 layers and decay 0.5: embeddings 0.125, block 0 0.25, block 1 0.5, head 1.0.

    References:
        Howard and Ruder, 2018, arXiv:1801.06146; Clark et al., 2020, arXiv:2003.10555.
    """
    if not 0 < decay <= 1:
        raise InputError(f"--layer_decay must be above 0 and at most 1. Received: {decay}")
    variables = list(variables)
    depths = [(depth_of or depth_by_name)(variable) for variable in variables]
    if variables and all(depth is None for depth in depths):
        raise ValueError(
            "none of the variables lies in the embeddings or in a block, so far as their names "
            f"tell. Received: {variables[0].name}, …"
        )
    for variable, depth in zip(variables, depths, strict=True):
        if depth is not None and not 0 <= depth <= num_layers:
            raise ValueError(
                f"{variable.name} has depth {depth}, but there are {num_layers} layers"
            )
    return [1.0 if depth is None else decay ** (num_layers + 1 - depth) for depth in depths]


def depth_by_name(variable: tf.Variable) -> int | None:
    """Read how deep a variable of a transformers backbone lies from its name.

    Returns:
        0 for embeddings, i + 1 for block i, None for everything else, which lies above them.

    Raises:
        InputError: if it belongs to several blocks, as ALBERT's do.

    Example:
        `…/bert/encoder/layer_._3/output/dense/kernel:0` → 4; `…/transformer/wte/weight:0` → 0.
    """
    # The last part is the variable's own: a head may hold a Keras `Embedding`'s `embeddings`.
    layers = variable.name.split("/")[:-1]
    for layer in layers:
        if layer.startswith(_SHARED_BLOCKS):
            raise InputError(
                "ALBERT's blocks share their matrices, so none can learn more slowly than the one "
                "above it. Leave --layer_decay out"
            )
        block = _BLOCK.fullmatch(layer)
        if block:
            return int(block[1]) + 1
    return 0 if _EMBEDDINGS.intersection(layers) else None
