"""Training a backbone by small matrices beside its own, which stay as they are.

```
apply_lora    freezes the model and puts an adapter on every projection that is meant
    │         …compile, fit, evaluate, generate: the forward pass is the same
merge_lora    adds what was learnt to the backbone's matrices and takes the adapters away
```
Adapters are saved alone by `tfllm.models.adapter_files`.

Reference:
    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError
from tfllm.layers.lora import LoRA
from tfllm.models.projections import Projection, family_of, matching, projections
from tfllm.models.trainable import TrainableShare, trainable_share

__all__ = [
    "Adapter",
    "adapters_of",
    "add_adapters",
    "apply_lora",
    "check_adapters",
    "freeze_but",
    "head_of",
    "merge_lora",
    "trained_heads",
    "wrap",
]


class Adapter(NamedTuple):
    """An adapter and the projection that it is on."""

    projection: Projection
    layer: LoRA


def apply_lora(
    model: keras.Model,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    heads: Sequence[str] = (),
    seed: int = 0,
) -> TrainableShare:
    """Freeze a model and put adapters on its projections; they alone train.

    The model computes the same as before, to the bit, until it is trained. Do it within the
    strategy's scope, before `compile` and before a `tf.train.Checkpoint` of the model is used:
    the projections' paths in checkpoints change.

    Args:
        model: a TF model of transformers, of a family that `projections.family_of` knows, or a
            model with one at `.backbone`. What lies outside what is given here is not touched: a
            `CausalLM`'s own untied head trains on if only its backbone is given.
        rank: the inner dimension of the change, 1 or more.
        alpha: the change is scaled by alpha/rank.
        dropout: share of an adapter's inputs that is zeroed in training, a function of seed and
            step. Only through `tfllm`'s forward passes: those of transformers have no place for
            the seed.
        targets: names of projections, see `tfllm.models.projections.matching`; None for all of
            each block.
        heads: attributes of the model that train as a whole beside the adapters.
        seed: decides the adapters' initial values.

    Returns:
        How much of the model trains; printed, one line.

    Raises:
        InputError: if an argument can't be used; the model is then as it was.

    Example:
        >>> config = GPT2Config(vocab_size=10, n_embd=8, n_layer=2, n_head=2, n_positions=4)
        >>> print(apply_lora(CausalLM.from_config(config), rank=2, alpha=4, targets=["c_attn"]))
        128 of 2,000 parameters train (6.4%)
    """
    chosen = projections(model) if targets is None else matching(model, targets)
    return wrap(model, chosen, rank=rank, alpha=alpha, dropout=dropout, heads=heads, seed=seed)


def wrap(
    model: keras.Model,
    chosen: Sequence[Projection],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    heads: Sequence[str],
    seed: int,
) -> TrainableShare:
    """Do what `apply_lora` does, on projections of `model` that are chosen already."""
    check_adapters(model, rank=rank, alpha=alpha, dropout=dropout)
    kept = {id(head_of(model, name)) for name in heads}
    add_adapters(chosen, rank=rank, alpha=alpha, dropout=dropout, seed=seed)
    freeze_but(model, kept)
    return trainable_share(model)


def check_adapters(model: keras.Model, *, rank: int, alpha: float, dropout: float) -> None:
    """Refuse settings that no adapters can have, and a model that has some.

    Raises:
        InputError: naming what is wrong.
    """
    _check(rank, alpha, dropout)
    if dropout and not family_of(model).seeded_dropout:
        raise InputError(
            f"dropout on adapters of {family_of(model).name} must be 0: transformers' forward pass "
            "hands no seed to its projections, and dropout without one differs after a resume. "
            f"Received: dropout={dropout}"
        )
    if adapters_of(model):
        raise InputError("the model has adapters already. Merge them with merge_lora first")
    if getattr(model, "adapted_by_task", False):
        raise InputError("the model's tasks have adapters already")


def add_adapters(
    chosen: Sequence[Projection],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    seed: int,
    first: int = 0,
    shared: bool = False,
) -> None:
    """Put a new adapter around each projection; the i-th begins with the numbers of `first + i`."""
    for i, projection in enumerate(chosen, first):
        projection.replace(
            LoRA(
                projection.layer,
                rank=rank,
                alpha=alpha,
                dropout=dropout,
                seed=(seed, i),
                shared=shared,
            )
        )


def freeze_but(model: keras.Model, kept: set[int]) -> None:
    """Freeze all of a model but its adapters and the heads with these `id`s."""
    _freeze(model, kept)
    _forget_graphs(model)


def merge_lora(model: keras.Model) -> int:
    """Fold the adapters into the projections and take them away.

    The model is then a plain one again, for `save_pretrained` and export, and computes what it
    computed with its adapters. All of it is trainable again; compile it anew to train it.

    Args:
        model: what was given to `apply_lora`.

    Returns:
        The number of adapters merged.

    Raises:
        InputError: if there are none, or other tasks read the same matrices.
    """
    found = adapters_of(model)
    if not found:
        raise InputError("the model has no adapters to merge. Put some on it with apply_lora")
    if any(layer.shared for _, layer in found):
        raise InputError(
            "adapters of one of several tasks can't be merged: the others read the same matrices. "
            "save_pretrained folds them into what it writes"
        )
    for projection, layer in found:
        projection.replace(layer.merge())
    model.trainable = True
    for layer in (model, *model.submodules):
        if isinstance(layer, keras.layers.Layer):
            _thaw_own_weights(layer)
    _forget_graphs(model)
    return len(found)


def adapters_of(model: keras.Model) -> list[Adapter]:
    """List the adapters of a model, from its first block to its last."""
    return [Adapter(p, p.layer) for p in projections(model) if isinstance(p.layer, LoRA)]


def head_of(model: keras.Model, name: str) -> keras.layers.Layer | tf.Variable:
    """Find what the model calls `name` and may train whole beside its adapters.

    Raises:
        InputError: if it has no such head.
    """
    candidates = _candidates(model)
    if name not in candidates:
        raise InputError(
            f"the model has no head {name!r} to train beside its adapters. "
            f"It has: {', '.join(candidates) or 'none'}"
        )
    return candidates[name]


def trained_heads(model: keras.Model) -> dict[str, keras.layers.Layer | tf.Variable]:
    """What trains beside the adapters, by the names of the model's attributes."""
    own = {id(variable) for variable in model._trainable_weights}
    return {
        name: head
        for name, head in _candidates(model).items()
        if id(head) in own or (isinstance(head, keras.layers.Layer) and head.trainable_weights)
    }


def _check(rank: int, alpha: float, dropout: float) -> None:
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise InputError(f"the rank of adapters must be an integer above 0. Received: rank={rank}")
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError(
            f"alpha, which scales adapters by alpha/rank, must be above 0. Received: alpha={alpha}"
        )
    if not 0.0 <= dropout < 1.0:
        raise InputError(
            f"the dropout of adapters must be at least 0 and below 1. Received: dropout={dropout}"
        )


def _candidates(model: keras.Model) -> dict[str, keras.layers.Layer | tf.Variable]:
    """The model's direct layers and variables that hold no projection; of tasks `task/name`."""
    inside = {id(projection.parent) for projection in projections(model)}
    of_tasks = {
        f"{task_name}/{name}": head
        for task_name, task in getattr(model, "tasks", {}).items()
        for name, head in _candidates(task).items()
    }
    return of_tasks | {
        name: value
        for name, value in vars(model).items()
        if not name.startswith("_")
        and (
            isinstance(value, tf.Variable)
            or (
                isinstance(value, keras.layers.Layer)
                and value.weights
                and not any(id(module) in inside for module in value.submodules)
            )
        )
    }


def _freeze(layer: keras.layers.Layer, kept: set[int]) -> bool:
    """Freeze all but adapters and what is kept; return whether anything here still trains.

    A layer that is not trainable freezes all within it, so those on the way to an adapter stay
    trainable and have only their own weights frozen.
    """
    if isinstance(layer, LoRA) or id(layer) in kept:
        return True
    children = layer._flatten_layers(recursive=False, include_self=False)
    if not any([_freeze(child, kept) for child in children]):
        layer.trainable = False
        return False
    frozen = [variable for variable in layer._trainable_weights if id(variable) not in kept]
    layer._trainable_weights[:] = [v for v in layer._trainable_weights if id(v) in kept]
    layer._non_trainable_weights.extend(frozen)
    return True


def _thaw_own_weights(layer: keras.layers.Layer) -> None:
    """Undo what `_freeze` did to the weights of the layer itself."""
    thawed = [variable for variable in layer._non_trainable_weights if variable.trainable]
    layer._non_trainable_weights[:] = [v for v in layer._non_trainable_weights if not v.trainable]
    layer._trainable_weights.extend(thawed)


def _forget_graphs(model: keras.Model) -> None:
    """Have Keras trace its steps again: the old graphs know nothing of the change."""
    for each in (model, *getattr(model, "tasks", {}).values()):
        each.train_function = each.test_function = each.predict_function = None
