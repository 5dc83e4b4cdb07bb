"""Batches of several tasks in turn, as a `tf.data.Dataset`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfllm.data.mixture_plan import MixturePlan
from tfllm.data.pipeline_rows import RowBatches
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.errors import InputError

__all__ = ["MultiTaskBatches", "task_shares"]


def task_shares(sizes: Mapping[str, int], temperature: float = 1.0) -> dict[str, float]:
    """Share steps out among tasks by their sizes, the larger the temperature the more evenly.

    Args:
        sizes: task → examples.
        temperature: 1: in proportion; above: small tasks get more than their share.

    Raises:
        InputError: if the temperature is below 1, or a task has no examples.

    Example:
        8,000 and 1,000 examples at temperature 3 → shares 0.67 and 0.33.

    Reference:
        Devlin, multilingual BERT, 2019; Raffel et al., T5, 2020, arXiv:1910.10683, section 3.5.2.
    """
    if not temperature >= 1:
        raise InputError(f"temperature must be at least 1. Received: {temperature}")
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"the task {name!r} has no examples")
    raised = {name: size ** (1.0 / temperature) for name, size in sizes.items()}
    total = sum(raised.values())
    return {name: value / total for name, value in raised.items()}


class MultiTaskBatches(StepBatches):
    """Each step's batch comes from one task, which a plan chooses.

    Attributes:
        tasks: name → its batches.
        plan: which task each step reads, and which of the task's own steps.
    """

    def __init__(self, tasks: Mapping[str, RowBatches], plan: MixturePlan) -> None:
        """Check that there are as many tasks as weights."""
        if len(tasks) != len(plan.counts):
            raise InputError(
                f"{len(tasks)} tasks are mixed by {len(plan.counts)} weights. Give each one"
            )
        self.tasks = dict(tasks)
        self.plan = plan
        self._specs = {name: batches.signature() for name, batches in tasks.items()}

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a window of the plan, in which each task has exactly its share."""
        return self.plan.window

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step computes on, on average."""
        shares = self.plan.counts / self.plan.window
        tokens = [batches.tokens_per_step for batches in self.tasks.values()]
        return round(float(np.dot(shares, tokens)))

    @property
    def row_tokens(self) -> int:
        """Tokens of a row, on average over tasks."""
        return round(float(np.mean([batches.row_tokens for batches in self.tasks.values()])))

    def task_of(self, step: int) -> str:
        """Name the task of a step."""
        return list(self.tasks)[self.plan.source(step)[0]]

    def identity(self) -> dict[str, str]:
        """Say what a run that is continued must find as it was: each task's data, and the plan."""
        of_tasks = {
            f"{what} of {name}": value
            for name, batches in self.tasks.items()
            for what, value in batches.identity().items()
        }
        return of_tasks | {"mixture": json.dumps([*self.tasks, *self.plan.counts.tolist()])}

    def rows_of(self, step: int) -> Iterable[str]:
        """Name the task of a step and its rows, for messages."""
        number, own_step = self.plan.source(step)
        name = list(self.tasks)[number]
        return [f"{name} {row}" for row in self.tasks[name].rows_of(own_step)]

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather the batch of one step, or one worker's share of it.

        Returns:
            features `<int32>[rows, width]`, zeros for those that only other tasks have; targets
            and weights by task, where other tasks have rows of weight 0.
        """
        number, own_step = self.plan.source(step)
        name = list(self.tasks)[number]
        features, targets, weights = self.tasks[name].batch(own_step, worker, workers)
        rows, width = features["input_ids"].shape
        names = {feature for spec in self._specs.values() for feature in spec[0]}
        absent = {feature: np.zeros([rows, width], np.int32) for feature in names - set(features)}
        empty = {
            other: (_zeros(spec[1], rows), _zeros(spec[2], rows))
            for other, spec in self._specs.items()
            if other != name
        }
        return (
            features | absent,
            {name: targets} | {other: pair[0] for other, pair in empty.items()},
            {name: weights} | {other: pair[1] for other, pair in empty.items()},
        )

    def signature(self, workers: int = 1) -> Any:
        """Specs that hold for every task."""
        import tensorflow as tf

        features: dict[str, Any] = {}
        for spec in self._specs.values():
            features |= {name: tf.TensorSpec([None, None], tf.int32) for name in spec[0]}
        return (
            features,
            {name: _any_size(spec[1]) for name, spec in self._specs.items()},
            {name: _any_size(spec[2]) for name, spec in self._specs.items()},
        )


def _zeros(spec: Any, rows: int) -> np.ndarray:
    inner = [1 if size is None else size for size in spec.shape[1:]]
    return np.zeros([rows, *inner], spec.dtype.as_numpy_dtype)


def _any_size(spec: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)
