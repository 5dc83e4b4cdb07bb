"""What is printed, drawn and written of a task's model after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfllm.training.epoch_report import EpochReport
from tfllm.training.row_predictor import RowPredictor
from tfllm.training.write_predictions import write_predictions

__all__ = ["TaskReport"]

_Outputs = dict[str, np.ndarray]


class TaskReport(EpochReport):
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
        super().__init__(model, validation, folder, measured_within)
        self._predictor = RowPredictor(model)
        self._measure = measure
        self._figures = figures
        self._lines = lines
        self._path = predictions_path

    def _measured(self) -> tuple[dict[str, float], _Outputs]:
        found = self._predictor.predict(self._validation)
        results = {"loss": found.loss, **self._measure(found.outputs)}
        if self._lines is not None and self._path is not None:
            write_predictions(self._path, self._lines(found.outputs))
        return results, found.outputs

    def _summarize(self, outputs: _Outputs) -> None:
        figures = self._figures(outputs) if self._figures else {}
        for name, picture in figures.items():
            tf.summary.image(name, picture)
