"""Adapters for each of several tasks, on one backbone that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

from tfllm.models.backbone_twin import twin_of
from tfllm.models.lora import add_adapters, check_adapters, freeze_but, head_of
from tfllm.models.multi_task_model import MultiTaskModel
from tfllm.models.projections import matching, projections
from tfllm.models.trainable import TrainableShare, trainable_share

__all__ = ["apply_lora_by_task"]


def apply_lora_by_task(
    model: MultiTaskModel,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    heads: Sequence[str] = (),
    seed: int = 0,
) -> TrainableShare:
    """Freeze the backbone and give each task adapters of its own; they and the heads train.

    So no task's gradient reaches what another uses. In memory and in a bundle the backbone's
    weights are there once. A task that is `frozen` gets no adapters. Each task's model is one with
    adapters like any other: `save_adapters` takes it, and its `save_pretrained` folds them in. They
    can't be merged in place, because other tasks read the same matrices.

    Args:
        model: not compiled yet; see `apply_lora` for when to do it.
        rank: the inner dimension of the change, 1 or more.
        alpha: the change is scaled by alpha/rank.
        dropout: share of an adapter's inputs that is zeroed in training.
        targets: names of projections, see `tfllm.models.projections.matching`; None for all of
            each block.
        heads: attributes of the tasks that train as a whole, `task/name` each.
        seed: decides the adapters' initial values.

    Returns:
        How much of the model trains.

    Raises:
        InputError: if an argument can't be used, or the model has adapters already; the model is
            then as it was.

    Reference:
        Hu et al., LoRA, 2021, arXiv:2106.09685; Houlsby et al., 2019, arXiv:1902.00751 (modules
        of each task's own on one backbone).
    """
    chosen = projections(model) if targets is None else matching(model, targets)
    check_adapters(model, rank=rank, alpha=alpha, dropout=dropout)
    kept = {id(head_of(model, name)) for name in heads}
    paths = {projection.path for projection in chosen}
    for number, (name, task) in enumerate(model.tasks.items()):
        if name in model.frozen:
            continue
        task.backbone = twin_of(model.backbone)
        add_adapters(
            [projection for projection in projections(task) if projection.path in paths],
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            seed=seed,
            first=number * len(chosen),
            shared=True,
        )
    freeze_but(model, kept)
    return trainable_share(model)
