"""The matrices of a backbone's blocks, by the names that PyTorch's classes give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tf_keras as keras

from tfllm.errors import InputError
from tfllm.models.backbones.families import FAMILIES
from tfllm.models.backbones.family import follow

__all__ = ["Family", "Projection", "family_of", "matching", "projections"]


class Family(NamedTuple):
    """Backbones that are built alike.

    Attributes:
        name: for messages.
        blocks: path of the list of blocks, within the main layer.
        projections: PyTorch's name within a block → TensorFlow's attributes.
        bare: the transformers class whose PyTorch names begin within the main layer.
        seeded_dropout: whether the forward pass can hand a dropout seed to a projection: that of
            `tfllm.models.backbones` can, that of a transformers class with a head can't.
        input_first: whether PyTorch stores the matrices `[in, out]`.
    """

    name: str
    blocks: str
    projections: dict[str, str]
    bare: str
    seeded_dropout: bool
    input_first: bool


class Projection(NamedTuple):
    """One projection of one block.

    Attributes:
        path: PyTorch's, within the main module: `h.0.attn.c_attn`.
        name: its last part, within the block: `attn.c_attn`.
        parent: the layer that holds it.
        attribute: where it holds it.
    """

    path: str
    name: str
    parent: keras.layers.Layer
    attribute: str

    @property
    def layer(self) -> keras.layers.Layer:
        """What stands there now: the projection, or an adapter around it."""
        return getattr(self.parent, self.attribute)

    def replace(self, layer: keras.layers.Layer) -> None:
        """Put another layer there, in the same place of the order of the model's weights."""
        place = [tracked is self.layer for tracked in self.parent._self_tracked_trackables]
        setattr(self.parent, self.attribute, layer)
        # Keras moves what is set anew to the end, and `set_weights` goes by the order.
        order = self.parent._self_tracked_trackables
        order.insert(place.index(True), order.pop())


def family_of(model: Any) -> Family:
    """Say how a model's backbone is built.

    Args:
        model: a TF model of transformers, or a model with one at `.backbone`.

    Raises:
        InputError: if it is of no family that is known here, or of one whose blocks are one layer.
    """
    backbone = _backbone(model)
    family = FAMILIES.get(getattr(getattr(backbone, "config", None), "model_type", ""))
    if family is None or family.shared:
        known = ", ".join(family.name for family in FAMILIES.values() if not family.shared)
        reason = " Its blocks share their matrices." if family is not None else ""
        raise InputError(
            f"adapters can be put on models of the families {known}. Received: a "
            f"{type(backbone).__name__}.{reason}"
        )
    parts = [family.parts[role] for role in family.projections]
    bare = type(backbone).__name__ == family.model
    return Family(
        name=family.name,
        blocks=family.blocks[0],
        projections={part.torch: part.attributes for part in parts},
        bare=family.model,
        seeded_dropout=bare,
        input_first=family.input_first,
    )


def projections(model: Any) -> list[Projection]:
    """List the projections of all blocks, from the first block to the last.

    Raises:
        InputError: as `family_of`.
    """
    family, backbone = family_of(model), _backbone(model)
    blocks = follow(getattr(backbone, backbone.base_model_prefix), family.blocks)
    return [
        _projection(block, f"{family.blocks}.{i}", name, attributes)
        for i, block in enumerate(blocks)
        for name, attributes in family.projections.items()
    ]


def matching(model: Any, targets: Sequence[str]) -> list[Projection]:
    """List the projections that are meant by `targets`.

    Args:
        model: as in `family_of`.
        targets: names within a block. One that no projection has in full stands for all that end
            with it: `attn.c_proj` is one of GPT-2's, `c_proj` both.

    Raises:
        InputError: if one of them means nothing, or there is none.
    """
    names = family_of(model).projections
    if isinstance(targets, str):
        targets = (targets,)
    wanted: set[str] = set()
    for target in targets:
        found = {target} & set(names) or {n for n in names if n.endswith(f".{target}")}
        if not found:
            raise InputError(
                f"the target {target!r} matches no projection of this {family_of(model).name}. "
                f"It has: {', '.join(names)}; the last part of a name is enough"
            )
        wanted |= found
    if not wanted:
        raise InputError(f"adapters need a target. Give some of: {', '.join(names)}")
    return [projection for projection in projections(model) if projection.name in wanted]


def _projection(block: Any, at: str, name: str, attributes: str) -> Projection:
    parent, _, attribute = attributes.rpartition(".")
    return Projection(f"{at}.{name}", name, follow(block, parent), attribute)


def _backbone(model: Any) -> Any:
    return getattr(model, "backbone", model)
