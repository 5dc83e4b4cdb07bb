"""Several tasks on one backbone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.backbones import hidden_states
from tfllm.models.task_model import TaskModel
from tfllm.training.step import SummedLossModel

__all__ = ["MultiTaskModel"]

Sums = tuple[tf.Tensor, tf.Tensor]


class MultiTaskModel(SummedLossModel):
    """Trains the heads of several tasks together with the one backbone that they share.

    A batch goes through the backbone once (once more for frozen tasks, and for each that has
    adapters of its own, see `apply_lora_by_task`); then each task adds the loss of its own rows. A
    task that has none in a batch costs nothing. Each stays a model by itself: it predicts, is
    measured, exported and saved like any other of its class.

    Features are those of `TaskModel`. Targets and weights are dictionaries by task; rows of other
    tasks have weight 0.

    Example:
        >>> backbone = load_backbone("sentence-transformers/all-MiniLM-L6-v2")
        >>> model = MultiTaskModel({
        ...     "sentiment": TextClassifier(backbone, labels=["bad", "good"]),
        ...     "similarity": TextClassifier(backbone, kind="regression"),
        ... })

    Reference:
        Liu et al., Multi-Task Deep Neural Networks, 2019, arXiv:1901.11504.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskModel],
        *,
        frozen: Collection[str] = (),
        seed: int = 0,
        name: str | None = "multi_task_model",
    ) -> None:
        """Put tasks together.

        Args:
            tasks: name → model; all of them made of the same backbone, the object itself.
            frozen: tasks whose gradients stop above the blocks, not all: they train their heads
                (and the pooler of BERT, which classifiers share), and the blocks learn from the
                others.
            seed: decides dropout, together with the optimizer's step.
            name: of the Keras model.

        Raises:
            InputError: if there are no tasks, they do not share their backbone, or all are frozen.
        """
        super().__init__(seed=seed, name=name)
        if not tasks:
            raise InputError("a multi-task model needs at least one task. Received: none")
        first = next(iter(tasks.values()))
        for task_name, task in tasks.items():
            if task.backbone is not first.backbone:
                raise InputError(
                    f"the task {task_name!r} has a backbone of its own. Make all tasks of one "
                    "backbone: TextClassifier(backbone, …)"
                )
        self.backbone = first.backbone
        self.config = self.backbone.config
        self.tasks = dict(tasks)
        self.frozen = frozenset(frozen)
        unknown = ", ".join(sorted(self.frozen - set(self.tasks)))
        if unknown:
            raise InputError(
                f"frozen must name tasks: {', '.join(self.tasks)}. Received: {unknown}"
            )
        if self.frozen == set(self.tasks):
            raise InputError(
                "one task at least must train the backbone, and all are frozen. To train heads "
                "alone, freeze the backbone with freeze_below"
            )
        self.built = True

    @property
    def adapted_by_task(self) -> bool:
        """Whether tasks have adapters of their own, see `apply_lora_by_task`."""
        return any(task.backbone is not self.backbone for task in self.tasks.values())

    def call(self, features: Any, training: bool = False) -> dict[str, tf.Tensor]:
        """Return every task's logits for the same rows, by name."""
        found = {}
        for names in self._alike():
            backbone = self.tasks[names[0]].backbone
            hidden = hidden_states(backbone, features, training=training)
            for name in names:
                found[name] = self.tasks[name].logits_of(
                    hidden, features, training=training, dropout_seed=None
                )
        return {name: found[name] for name in self.tasks}

    def loss_sum_and_weight(
        self,
        features: Any,
        targets: Mapping[str, tf.Tensor],
        weights: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the losses of all tasks, and their weights; see `SummedLossModel`."""

        def sums_of(name: str, hidden: tf.Tensor) -> Sums:
            task = self.tasks[name]
            logits = task.logits_of(hidden, features, training=training, dropout_seed=dropout_seed)
            return task.loss_of(logits, features, targets[name], weights[name])

        def sums_of_all(names: list[str]) -> Sums:
            backbone = self.tasks[names[0]].backbone
            hidden = hidden_states(backbone, features, training=training, dropout_seed=dropout_seed)
            if names[0] in self.frozen:
                hidden = tf.stop_gradient(hidden)
            return _added(
                [_if_any([weights[n]], functools.partial(sums_of, n, hidden)) for n in names]
            )

        groups = self._alike()
        if len(groups) == 1:
            return sums_of_all(groups[0])
        return _added(
            [
                _if_any([weights[n] for n in names], functools.partial(sums_of_all, names))
                for names in groups
            ]
        )

    def _alike(self) -> list[list[str]]:
        """Group the tasks that can share a forward pass: one backbone, and a gradient or none."""
        groups: dict[tuple[int, bool], list[str]] = {}
        for name, task in self.tasks.items():
            groups.setdefault((id(task.backbone), name in self.frozen), []).append(name)
        return list(groups.values())

    def _padding(self, features: Any, weights: Any) -> tf.Tensor:
        """Share of positions that are padding; weights of other tasks' rows are 0 and are none."""
        mask = features.get("attention_mask", tf.ones([1], tf.int32))
        return super()._padding(features, mask)

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder for each task, `folder/<task>`, which transformers loads by itself.

        Each holds the backbone as well. Adapters are folded in.

        Args:
            folder: of the folders.
            tokenizer: a `tfllm.text.Tokenizer`, whose files are put beside the weights.
            overwrite: replace folders that exist.

        Raises:
            InputError: if a folder exists or can't be written.
        """
        for name, task in self.tasks.items():
            task.save_pretrained(Path(folder) / name, tokenizer, overwrite=overwrite)

    def signatures(self, functions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Give the functions that one bundle of all tasks serves.

        Args:
            functions: task → what its model's own `signatures` gave.

        Returns:
            each task's `serving_default` under the task's name, and under `serving_default` the
            first task's.

        Raises:
            InputError: if a task's functions are missing, or it is called `serving_default`.
        """
        if "serving_default" in self.tasks:
            raise InputError("a task can't be called serving_default. Give it another name")
        missing = [name for name in self.tasks if name not in functions]
        if missing:
            raise InputError(f"tasks without functions to serve: {', '.join(missing)}")
        served = {name: functions[name]["serving_default"] for name in self.tasks}
        return {"serving_default": next(iter(served.values())), **served}


def _if_any(weights: list[tf.Tensor], sums: Callable[[], Sums]) -> Sums:
    """Compute the sums if there are rows for them; else they are 0, at no cost."""
    there = tf.reduce_any([tf.reduce_any(each > 0) for each in weights])
    return tf.cond(there, sums, lambda: (tf.constant(0.0), tf.constant(0.0)))


def _added(sums: list[Sums]) -> Sums:
    losses, weights = zip(*sums, strict=True)
    return tf.add_n(losses), tf.add_n(weights)
