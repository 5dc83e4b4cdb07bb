"""What is printed, drawn and written of a task's model after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from tfllm.training.row_predictor import RowPredictor
from tfllm.training.workers import Workers
from tfllm.training.write_predictions import write_predictions

__all__ = ["TaskReport"]

_Outputs = dict[str, np.ndarray]


class TaskReport:
    """Predicts a validation set once, and prints, draws and writes what came out.

    Under several workers the chief does all of it, and the others report nothing.
    """

    def __init__(
        self,
        model: keras.Model,
        validation: Any,
        measure: Callable[[_Outputs], Mapping[str, float]],
        folder: Path,
        *,
        figures: Callable[[_Outputs], Mapping[str, np.ndarray]] | None = None,
        lines: Callable[[_Outputs], Iterable[Mapping[str, Any]]] | None = None,
        predictions_path: Path | None = None,
        measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        All functions are given the outputs by name, as `RowPredictions` has them: `targets`,
        `weights` and what the model's `decode` gives, aligned with the store's rows.

        Args:
            model: see `RowPredictor`.
            validation: `tfllm.data.RowBatches` that visit every row once.
            measure: outputs → numbers by name. Those with a slash in their names are details:
                drawn, not printed.
            folder: a run's `tensorboard`.
            figures: outputs → pictures by name, `<uint8>[1, height, width, 3]`.
            lines: outputs → what is written of each example, see `write_predictions`.
            predictions_path: the file they go to, replaced each time.
            measured_within: gives a context to measure in, such as one that puts the average of
                the weights in place.
        """
        # What was measured last; the file of predictions is of the same weights.
        self.newest: dict[str, float] | None = None
        self._predictor = RowPredictor(model)
        self._validation = validation
        self._measure = measure
        self._figures = figures
        self._lines = lines
        self._path = predictions_path
        self._measured_within = measured_within
        self._is_chief = Workers(model.distribute_strategy).is_chief
        self._folder = folder
        self._writer: Any = None

    @property
    def source(self) -> str:
        """The digest of the data that is predicted."""
        return self._validation.store.manifest.source

    def __call__(self, epoch: int, step: int) -> dict[str, float]:
        """Report on the weights as they are after an epoch.

        Args:
            epoch: counts from 1.
            step: optimizer steps taken.

        Returns:
            `loss`, the mean over all weight, and what was measured, by name.
        """
        results, outputs = self._predict()
        if not self._is_chief:
            return results
        self._draw(results, outputs, step)
        facts = ", ".join(
            f"{name.replace('_', ' ')} {value:.3f}"
            for name, value in results.items()
            if "/" not in name
        )
        tqdm.write(f"Epoch {epoch}, step {step}: validation {facts}")
        return results

    def evaluate(self) -> dict[str, float]:
        """Measure the weights as they are, and write the predictions; print and draw nothing.

        After training, when the model has its best weights, this leaves their predictions.
        """
        return self._predict()[0]

    def _predict(self) -> tuple[dict[str, float], _Outputs]:
        with self._measured_within():
            if not self._is_chief:
                return {}, {}
            found = self._predictor.predict(self._validation)
        results = {"loss": found.loss, **self._measure(found.outputs)}
        self.newest = results
        if self._lines is not None and self._path is not None:
            write_predictions(self._path, self._lines(found.outputs))
        return results, found.outputs

    def _draw(self, results: Mapping[str, float], outputs: _Outputs, step: int) -> None:
        figures = self._figures(outputs) if self._figures else {}
        if self._writer is None:
            # The folder's name is the curve's name in TensorBoard.
            self._writer = tf.summary.create_file_writer(str(self._folder / "validation"))
        with self._writer.as_default(step=step):
            for name, value in results.items():
                tf.summary.scalar(name, value)
            for name, picture in figures.items():
                tf.summary.image(name, picture)
        self._writer.flush()
