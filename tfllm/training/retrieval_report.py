"""What is printed, drawn and written of a dual encoder after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfllm.training.epoch_report import EpochReport
from tfllm.training.projector import write_projector
from tfllm.training.row_predictor import RowPredictor
from tfllm.training.step import SummedLossModel
from tfllm.training.write_predictions import write_predictions

__all__ = ["Points", "RetrievalReport"]


class Points(NamedTuple):
    """What TensorBoard's projector shows.

    Attributes:
        queries: examples `{"id", "text"}`, all in the order of their rows; the first are shown.
        documents: the same, those that are shown.
        document_rows: `<int64>[shown]`, their rows.
    """

    queries: Sequence[Mapping[str, str]]
    documents: Sequence[Mapping[str, str]]
    document_rows: np.ndarray


class RetrievalReport(EpochReport):
    """Embeds a corpus and queries, searches, and prints, draws and writes what came out.

    All vectors of the corpus are in memory. Under several workers the chief does all of it, and
    the others report nothing.
    """

    def __init__(
        self,
        model: SummedLossModel,
        queries: Any,
        documents: Any,
        search: Callable[[np.ndarray, np.ndarray], Any],
        measure: Callable[[Any], Mapping[str, float]],
        folder: Path,
        *,
        lines: Callable[[Any], Iterable[Mapping[str, Any]]],
        predictions_path: Path,
        points: Points | None = None,
        measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        Args:
            model: with the embedders `query` and `document`, see `RowPredictor`.
            queries: `tfllm.data.RowBatches` that visit every row once, without targets.
            documents: the same.
            search: vectors of queries and of documents, `<float32>[rows, width]` each → found.
            measure: found → numbers by name.
            folder: a run's `tensorboard`.
            lines: found → what is written of each query, see `write_predictions`.
            predictions_path: the file they go to, replaced each time.
            points: for the projector, replaced each time; None for none.
            measured_within: gives a context to measure in, such as one that puts the average of
                the weights in place.
        """
        super().__init__(model, queries, folder, measured_within)
        self._documents = documents
        of_query = RowPredictor(model.query)
        shared = model.query is model.document
        self._predictors = of_query, of_query if shared else RowPredictor(model.document)
        self._search = search
        self._measure = measure
        self._lines = lines
        self._path = predictions_path
        self._points = points

    @property
    def source(self) -> str:
        """The digests of the queries and of the documents that are searched."""
        stores = (self._validation.store, self._documents.store)
        return " ".join(store.manifest.source for store in stores)

    def _measured(self) -> tuple[dict[str, float], Any]:
        rows = (self._validation, self._documents)
        queries, documents = (
            predictor.predict(batches).outputs["vector"]
            for predictor, batches in zip(self._predictors, rows, strict=True)
        )
        found = self._search(queries, documents)
        write_predictions(self._path, self._lines(found))
        if self._points is not None:
            self._project(queries, documents, self._points)
        return dict(self._measure(found)), found

    def _project(self, queries: np.ndarray, documents: np.ndarray, points: Points) -> None:
        vectors = np.concatenate([queries[: len(points.queries)], documents[points.document_rows]])
        of = [*points.queries, *points.documents]
        kinds = ["query"] * len(points.queries) + ["document"] * len(points.documents)
        columns = {"kind": kinds, **{n: [e[n] for e in of] for n in ("id", "text")}}
        write_projector(self._folder / "validation", vectors, columns)

    def _summarize(self, outputs: Any) -> None:
        """Draw nothing more."""
