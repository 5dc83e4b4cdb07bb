"""What a model says of every row of a store, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from tfllm.errors import InputError

__all__ = ["RowPredictions", "RowPredictor", "predict_rows"]

_SECONDS_WITHOUT_BAR = 2.0

# Of one batch: an array, or where rows have a value for each token, an array for each row.
_Part = np.ndarray | list[np.ndarray]


class RowPredictions(NamedTuple):
    """What came out, in the order of the store's rows however they were batched.

    Attributes:
        loss: mean over all weight; 0 without any.
        weight: what the loss was divided by.
        rows: `<int64>[rows]`, which rows of the store these are, rising.
        outputs: what the model's `decode` gives, and the batches' `targets` and `weights`. Each
            is `[rows, …]`; where a row has one value for each of its tokens it is `[rows]` of
            arrays (`dtype=object`), without their padding.
    """

    loss: float
    weight: float
    rows: np.ndarray
    outputs: dict[str, np.ndarray]


class _Step(NamedTuple):
    """What came out of one batch, without the rows that fill it up."""

    loss: float
    weight: float
    rows: np.ndarray
    outputs: dict[str, _Part]


class RowPredictor:
    """Runs a task's model over stores: loss and predictions out of one forward pass.

    One graph serves batches of all sizes, and stays for the next pass. Under a strategy of several
    devices it runs on the first of them.
    """

    def __init__(self, model: keras.Model) -> None:
        """Take a model.

        Args:
            model: with `forward`, `loss_of` and `decode` of `tfllm.models.task_model.TaskModel`.
        """
        self._model = model
        self._graphs: dict[str, _Graph] = {}

    def predict(self, batches: Any, *, progress: bool = True) -> RowPredictions:
        """Predict every row that one pass over the batches visits.

        Args:
            batches: `tfllm.data.RowBatches` whose plan visits each row once. Rows that fill up
                the last batch are left out. Without targets the loss is 0.
            progress: whether a terminal shows a bar, after two seconds.

        Raises:
            InputError: if there are no rows.
        """
        loss = weight = 0.0
        rows: list[np.ndarray] = []
        parts: list[dict[str, _Part]] = []
        for of_step in self._steps(batches, 0, progress):
            loss, weight = loss + of_step.loss, weight + of_step.weight
            rows.append(of_step.rows)
            parts.append(of_step.outputs)
        order = np.argsort(np.concatenate(rows), kind="stable")
        return RowPredictions(
            loss / weight if weight else 0.0,
            weight,
            np.concatenate(rows)[order],
            {name: _joined([part[name] for part in parts])[order] for name in parts[0]},
        )

    def predict_steps(
        self, batches: Any, first_step: int = 0, *, progress: bool = True
    ) -> Iterator[tuple[np.ndarray, dict[str, _Part]]]:
        """Predict step by step, so that memory does not grow with the store.

        Args:
            batches: see `predict`.
            first_step: where to start; what comes before is not computed.
            progress: see `predict`.

        Yields:
            of each step the rows `<int64>[rows]`, in the step's order, and their outputs.

        Raises:
            InputError: if there are no rows.
        """
        for of_step in self._steps(batches, first_step, progress):
            yield of_step.rows, of_step.outputs

    def _steps(self, batches: Any, first_step: int, progress: bool) -> Iterator[_Step]:
        if not batches.steps_per_epoch:
            raise InputError("there are no rows to predict: the data set is empty")
        graph = self._graph_for(batches)
        steps = tqdm(
            range(first_step, batches.steps_per_epoch),
            desc="predicting",
            delay=_SECONDS_WITHOUT_BAR,
            disable=None if progress else True,  # None: only a terminal shows it
            dynamic_ncols=True,
            leave=False,
        )
        for step in steps:
            batch = batches.batch(step)
            loss, weight, outputs = graph.run(*batch)
            rows = batches.plan.rows(step).rows
            parts = graph.real_rows(outputs, batch, len(rows))
            yield _Step(float(loss), float(weight), rows, parts)

    def _graph_for(self, batches: Any) -> _Graph:
        signature, has_targets = batches.signature(), batches.targets is not None
        key = repr((signature, has_targets))
        if key not in self._graphs:
            self._graphs[key] = _Graph(self._model, signature, has_targets)
        return self._graphs[key]


def predict_rows(model: keras.Model, batches: Any, *, progress: bool = True) -> RowPredictions:
    """Predict every row of a store once; see `RowPredictor`, which keeps its graph for more.

    Args:
        model: see `RowPredictor`.
        batches: see `RowPredictor.predict`.
        progress: see `RowPredictor.predict`.

    Example:
        >>> found = predict_rows(classifier, validation_batches)
        >>> found.loss, found.outputs["scores"][7]  # of the store's row 7
        (0.31, array([0.02, 0.98], dtype=float32))
    """
    return RowPredictor(model).predict(batches, progress=progress)


class _Graph:
    """The pass over one batch, of any size and width."""

    def __init__(self, model: Any, signature: Any, has_targets: bool) -> None:
        """Trace it.

        Args:
            model: see `RowPredictor`.
            signature: specs of features, targets and weights.
            has_targets: whether there is a loss.
        """

        def run(
            features: Mapping[str, tf.Tensor], targets: tf.Tensor, weights: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
            logits = model.forward(features)
            outputs = model.decode(logits, features)
            if not has_targets:
                return tf.constant(0.0), tf.constant(0.0), outputs
            while weights.shape.rank < targets.shape.rank:  # one weight for a whole row
                weights = weights[..., None]
            weights = tf.broadcast_to(weights, tf.shape(targets))
            return *model.loss_of(logits, features, targets, weights), outputs

        self.run = tf.function(run, input_signature=signature, autograph=False)
        _, _, outputs = self.run.get_concrete_function().structured_outputs
        known = {**outputs, "targets": signature[1], "weights": signature[2]}
        # A width that the graph does not know is that of the batch: one value for each token.
        self._per_token = {name for name, spec in known.items() if spec.shape[1:2] == [None]}

    def real_rows(
        self, outputs: Mapping[str, tf.Tensor], batch: Any, rows: int
    ) -> dict[str, _Part]:
        """Leave out the rows that fill a batch up, and of values for each token the padding."""
        features, targets, weights = batch
        lengths = features["attention_mask"].sum(axis=1)
        values = {name: value.numpy() for name, value in outputs.items()}
        values |= {"targets": targets, "weights": weights}
        return {
            name: [value[row, : lengths[row]].copy() for row in range(rows)]
            if name in self._per_token
            else value[:rows]
            for name, value in values.items()
        }


def _joined(parts: list[_Part]) -> np.ndarray:
    """Put the rows of all batches into one array."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    rows = [row for part in parts for row in part]
    joined = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        joined[place] = row
    return joined
