"""What every report on a model after an epoch has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from tfllm.training.workers import Workers

__all__ = ["EpochReport"]


class EpochReport(ABC):
    """Measures a model on a validation set, and prints, draws and writes what came out.

    Under several workers the chief does all of it, and the others report nothing.

    Attributes:
        newest: what was measured last, by name; what was written is of the same weights.
    """

    def __init__(
        self,
        model: keras.Model,
        validation: Any,
        folder: Path,
        measured_within: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Prepare.

        Args:
            model: what is trained.
            validation: `tfllm.data.StepBatches` that visit every target once.
            folder: a run's `tensorboard`.
            measured_within: gives a context to measure in, such as one that puts the average of
                the weights in place.
        """
        self.newest: dict[str, float] | None = None
        self._validation = validation
        self._folder = folder
        self._measured_within = measured_within
        self._is_chief = Workers(model.distribute_strategy).is_chief
        self._writer: Any = None

    @abstractmethod
    def _measured(self) -> tuple[dict[str, float], Any]:
        """Measure, and write the predictions: `loss` and other numbers by name, and the outputs."""

    @abstractmethod
    def _summarize(self, outputs: Any) -> None:
        """Draw what is no number, within TensorBoard's writer."""

    def _sample(self, outputs: Any) -> str | None:
        """Say a line more of the outputs to the person who watches."""
        return None

    def _facts(self, results: Mapping[str, float]) -> str:
        """Say what was measured to the person who watches, in a line."""
        return ", ".join(
            f"{name.replace('_', ' ')} {value:.3f}"
            for name, value in results.items()
            if "/" not in name
        )

    @property
    def source(self) -> str:
        """The digest of the data that is measured on."""
        return self._validation.store.manifest.source

    def __call__(self, epoch: int, step: int) -> dict[str, float]:
        """Report on the weights as they are after an epoch.

        Args:
            epoch: counts from 1.
            step: optimizer steps taken.

        Returns:
            `loss`, the mean over all weight, and what was measured, by name. Names with a slash
            are details: drawn, not printed.
        """
        results, outputs = self._measured_by_chief()
        if not self._is_chief:
            return results
        self._draw(results, outputs, step)
        tqdm.write(f"Epoch {epoch}, step {step}: validation {self._facts(results)}")
        sample = self._sample(outputs)
        if sample is not None:
            tqdm.write(f"    sample: {sample}")
        return results

    def evaluate(self) -> dict[str, float]:
        """Measure the weights as they are, and write the predictions; print and draw nothing.

        After training, when the model has its best weights, this leaves their predictions.
        """
        return self._measured_by_chief()[0]

    def _measured_by_chief(self) -> tuple[dict[str, float], Any]:
        # All workers put the weights in place, since they do it together.
        with self._measured_within():
            if not self._is_chief:
                return {}, None
            self.newest, outputs = self._measured()
        return self.newest, outputs

    def _draw(self, results: Mapping[str, float], outputs: Any, step: int) -> None:
        if self._writer is None:
            # The folder's name is the curve's name in TensorBoard.
            self._writer = tf.summary.create_file_writer(str(self._folder / "validation"))
        with self._writer.as_default(step=step):
            for name, value in results.items():
                tf.summary.scalar(name, value)
            self._summarize(outputs)
        self._writer.flush()
