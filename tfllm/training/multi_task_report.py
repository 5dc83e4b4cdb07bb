"""What is printed, drawn and written of a model of several tasks after each epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfllm.training.epoch_report import EpochReport
from tfllm.training.task_report import TaskReport

__all__ = ["MainMetric", "MultiTaskReport"]


class MainMetric(NamedTuple):
    """Which of a task's numbers counts in the mean over tasks.

    Attributes:
        name: as the task's report calls it.
        whole: what stands for all right: 1, or 100 of percents.
    """

    name: str
    whole: float = 1.0


class MultiTaskReport(EpochReport):
    """Measures each task by its own report, and all of them by a mean.

    Numbers and figures have their task's name before a slash, `sentiment/accuracy`; `loss` and
    `mean` are over tasks, each counting as one: of losses, and of main metrics as shares of what
    is whole. A line says these two and the main metrics.
    """

    def __init__(
        self,
        model: keras.Model,
        reports: Mapping[str, TaskReport],
        main: Mapping[str, MainMetric],
        folder: Path,
        *,
        measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        Args:
            model: of all tasks.
            reports: task → what measures it; what it would measure within does not count here.
            main: task → its main metric.
            folder: a run's `tensorboard`.
            measured_within: see `EpochReport`; entered once for all tasks.
        """
        super().__init__(model, None, folder, measured_within)
        self._reports = dict(reports)
        self._main = dict(main)

    @property
    def source(self) -> str:
        """The digests of the data that is measured on."""
        return json.dumps({name: report.source for name, report in self._reports.items()})

    def _measured(self) -> tuple[dict[str, float], Any]:
        found = {name: report._measured() for name, report in self._reports.items()}
        results = {
            f"{task}/{name}": value
            for task, (numbers, _) in found.items()
            for name, value in numbers.items()
        }
        losses = [results[f"{task}/loss"] for task in found]
        shares = [results[self._main_of(task)] / self._main[task].whole for task in found]
        over_tasks = {"loss": float(np.mean(losses)), "mean": float(np.mean(shares))}
        return over_tasks | results, {task: outputs for task, (_, outputs) in found.items()}

    def _facts(self, results: Mapping[str, float]) -> str:
        named = {name: value for name, value in results.items() if "/" not in name}
        named |= {self._main_of(task): results[self._main_of(task)] for task in self._reports}
        return super()._facts({name.replace("/", " "): value for name, value in named.items()})

    def _summarize(self, outputs: Any) -> None:
        for task, report in self._reports.items():
            with tf.name_scope(task):
                report._summarize(outputs[task])

    def _main_of(self, task: str) -> str:
        return f"{task}/{self._main[task].name}"
