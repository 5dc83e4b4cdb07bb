"""Leaving a backbone's lower layers as they are."""

from __future__ import annotations

import tf_keras as keras
from transformers import TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.models.backbones.families import FAMILIES
from tfllm.models.backbones.family import follow, present

__all__ = ["freeze_below"]


def freeze_below(model: keras.Model, layers: int) -> None:
    """Exclude the embeddings and the first blocks of a backbone from training.

    The layers get `trainable = False`, so the step computes no gradients for them. A head that is
    tied to the embeddings is frozen with them. Call it before the optimizer is built, whose
    moments take memory for each variable that is trainable then.

    Args:
        model: a backbone of transformers, or a model with one as its `backbone`.
        layers: blocks to freeze, from below; 0 for the embeddings alone, which is all that can be
            frozen of an ALBERT, whose blocks share their matrices.

    Raises:
        InputError: if there are fewer blocks, or `layers` is negative.
        ValueError: if the model's blocks can't be found.

    Example:
        >>> freeze_below(model, 4)  # doctest: +SKIP
        ... # Of 6 blocks, the last two and what lies above them are trained.

    Reference:
        Howard and Ruder, 2018, arXiv:1801.06146 (training the last layers first).
    """
    embeddings, blocks = _layers_of(getattr(model, "backbone", model))
    if not 0 <= layers <= len(blocks):
        raise InputError(
            f"can't freeze {layers} layers: the backbone has {len(blocks)}. "
            f"Give --freeze_layers 0 to {len(blocks)}"
        )
    for layer in [*embeddings, *blocks[:layers]]:
        layer.trainable = False


def _layers_of(
    backbone: TFPreTrainedModel,
) -> tuple[list[keras.layers.Layer], list[keras.layers.Layer]]:
    """Embeddings and blocks, in transformers' names; no blocks where they are all one."""
    family = FAMILIES.get(getattr(getattr(backbone, "config", None), "model_type", ""))
    if family is None:
        raise ValueError(
            f"the backbone must be a transformers model of the families {', '.join(FAMILIES)}. "
            f"Received: {type(backbone).__name__}"
        )
    main = family.main_layer(backbone)
    embeddings = [present(main, path) for path in family.embeddings]
    blocks = [] if family.shared else list(follow(main, family.blocks[0]))
    return [layer for layer in embeddings if layer is not None], blocks
