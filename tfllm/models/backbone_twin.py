"""A second backbone on the weights of a first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras
from transformers import TFPreTrainedModel

from tfllm.models.backbones import create_backbone
from tfllm.models.projections import Projection, projections

__all__ = ["twin_of"]


def twin_of(backbone: TFPreTrainedModel) -> TFPreTrainedModel:
    """Make a backbone whose every weight is the other's own variable, not a copy.

    Only what holds the blocks' projections is new, and so another projection can be put into the
    twin, such as an adapter around the shared one, while the first backbone stays as it is.
    Building it takes a second backbone's memory for a moment.

    Args:
        backbone: a TF model of transformers, of a family that `projections.family_of` knows.

    Returns:
        a TF model of the same class.

    Raises:
        InputError: if the family is another.
    """
    twin = create_backbone(backbone.config)
    _share(twin, backbone, _holders(backbone, projections(backbone)))
    return twin


def _holders(backbone: TFPreTrainedModel, found: Sequence[Projection]) -> set[int]:
    """Find the layers with a projection anywhere below them, by their `id`."""
    parents = {id(projection.parent) for projection in found}
    layers = [layer for layer in backbone.submodules if isinstance(layer, keras.layers.Layer)]
    return {
        id(layer)
        for layer in layers
        if id(layer) in parents or any(id(module) in parents for module in layer.submodules)
    }


def _share(ours: Any, theirs: Any, holders: set[int]) -> None:
    """Put all layers and variables of one layer into another, but for what holds projections."""
    for name, child in list(vars(theirs).items()):
        if name.startswith("_"):
            continue
        if isinstance(child, Sequence) and any(id(each) in holders for each in child):
            for our_child, their_child in zip(getattr(ours, name), child, strict=True):
                _share(our_child, their_child, holders)
        elif id(child) in holders:
            _share(getattr(ours, name), child, holders)
        elif isinstance(child, keras.layers.Layer | tf.Variable):
            setattr(ours, name, child)
        elif child is None:
            # A layer that was taken off, as the pooler where no head needs it.
            setattr(ours, name, None)
