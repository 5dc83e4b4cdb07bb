"""Several tasks on one backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.backbones import hidden_states
from tfllm.models.task_model import TaskModel
from tfllm.training.step import SummedLossModel

__all__ = ["MultiTaskModel"]


class MultiTaskModel(SummedLossModel):
    """Trains the heads of several tasks together with the one backbone that they share.

    A batch goes through the backbone once; then each task adds the loss of its own rows, and a
    task that has none in a batch costs nothing. Each task stays a model by itself: it predicts, is
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
        seed: int = 0,
        name: str | None = "multi_task_model",
    ) -> None:
        """Put tasks together.

        Args:
            tasks: name → model; all of them made of the same backbone, the object itself.
            seed: decides dropout, together with the optimizer's step.
            name: of the Keras model.

        Raises:
            InputError: if there are no tasks, or they do not share their backbone.
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
        self.built = True

    def call(self, features: Any, training: bool = False) -> dict[str, tf.Tensor]:
        """Return every task's logits for the same rows, by name."""
        hidden = hidden_states(self.backbone, features, training=training)
        return {
            name: task.logits_of(hidden, features, training=training, dropout_seed=None)
            for name, task in self.tasks.items()
        }

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
        hidden = hidden_states(
            self.backbone, features, training=training, dropout_seed=dropout_seed
        )

        def sums_of(name: str, task: TaskModel) -> tuple[tf.Tensor, tf.Tensor]:
            logits = task.logits_of(hidden, features, training=training, dropout_seed=dropout_seed)
            return task.loss_of(logits, features, targets[name], weights[name])

        nothing = (tf.constant(0.0), tf.constant(0.0))
        sums = [
            tf.cond(
                tf.reduce_any(weights[name] > 0),
                lambda name=name, task=task: sums_of(name, task),
                lambda: nothing,
            )
            for name, task in self.tasks.items()
        ]
        losses, task_weights = zip(*sums, strict=True)
        return tf.add_n(losses), tf.add_n(task_weights)

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
