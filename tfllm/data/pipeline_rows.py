"""Rows of a store, padded, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllm.data.array_store import ArrayStore
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.data.step_rows import RowsPlan

__all__ = ["RowBatches"]


class RowBatches(StepBatches):
    """Rows of a store as padded batches for a task.

    Attributes:
        store: the rows.
        plan: which rows each step reads.
        features: the ragged columns that are features.
        targets: the column to predict: one value a row, some (a matrix), or one for each token;
            None where nothing is.
    """

    def __init__(
        self,
        store: ArrayStore,
        plan: RowsPlan,
        *,
        targets: str | None,
        weights: str | None = None,
        features: Sequence[str] | None = None,
        padding: Mapping[str, int] | None = None,
        fill_rows: bool = True,
    ) -> None:
        """Choose the columns.

        Args:
            store: `input_ids` and other ragged columns, of equal lengths in each row.
            plan: `RowPlan`, `BucketPlan` or `BudgetPlan` over the store's rows.
            targets: the column to predict; None gives zeros, for rows without labels.
            weights: a column of weights of the same shape; None: 1 everywhere but on padding.
            features: ragged columns, `input_ids` first; an encoder's `features` names those that
                a model takes. None: all but targets and weights.
            padding: value beyond a row's end, by column; 0 where none is named.
            fill_rows: whether an epoch's last batch is filled up to its full size, with rows of
                weight 0; else it is smaller.
        """
        self.store = store
        self.plan = plan
        self.targets = targets
        self._weights = weights
        self._padding = dict(padding or {})
        self._fill_rows = fill_rows
        ragged = [name for name, column in store.manifest.columns.items() if column.ragged]
        others = [name for name in ragged if name not in (targets, weights)]
        self.features = tuple(others if features is None else features)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.plan.steps_per_epoch

    @property
    def row_tokens(self) -> int:
        """Tokens of a row, on average."""
        return round(float(self.store.lengths(self.features[0]).mean()))

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step computes on, on average and without padding."""
        return round(len(self.store.values(self.features[0])) / self.steps_per_epoch)

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather and pad the rows of one step, or one worker's share of them.

        Returns:
            features: each column as `<int32>[rows, width]`, and `attention_mask`
            `<int32>[rows, width]`, 1 on tokens; targets `[rows]`, `[rows, k]` of a matrix or
            `[rows, width]` of a ragged column, of the column's dtype, integers as int32; weights
            `<float32>`, `[rows, width]` if the targets are ragged, else `[rows]`. A row that the
            step lacks repeats another one, with weight 0: a row of padding alone would leave its
            attention nothing to see.

        Example:
            rows 5 6 and 7, labels 1 0 → input_ids 5 6 | 7 0, attention_mask 1 1 | 1 0, targets
            1 0, weights 1 1.
        """
        chosen = self.plan.rows(step, worker, workers)
        size = chosen.size if self._fill_rows else len(chosen.rows)
        spare = chosen.rows[:1] if len(chosen.rows) else np.zeros(1, np.int64)
        rows = np.concatenate([chosen.rows, np.repeat(spare, size - len(chosen.rows))])
        real = np.arange(size) < len(chosen.rows)
        width = self._width(rows) if chosen.width is None else chosen.width
        features = {name: self._gather(name, rows, width) for name in self.features}
        mask = _inside(*self._spans(self.features[0], rows), width)
        features["attention_mask"] = mask.astype(np.int32)
        targets = np.zeros(size, np.int32)
        if self.targets is not None:
            targets = self._gather(self.targets, rows, width)
        return features, targets, self._weigh(mask, rows, real)

    def signature(self, workers: int = 1) -> Any:
        """Specs in which rows and width are unknown."""
        import tensorflow as tf

        shape, dtype = self._shape_and_dtype()
        weights = [None, None] if self._per_token else [None]
        ids = tf.TensorSpec([None, None], tf.int32)
        features = dict.fromkeys((*self.features, "attention_mask"), ids)
        targets = tf.TensorSpec(shape, tf.as_dtype(dtype))
        return features, targets, tf.TensorSpec(weights, tf.float32)

    @property
    def _per_token(self) -> bool:
        return self.targets is not None and self.store.manifest.columns[self.targets].ragged

    def _shape_and_dtype(self) -> tuple[list[int | None], type]:
        if self.targets is None:
            return [None], np.int32
        column = self.store.manifest.columns[self.targets]
        matrix = column.ragged or column.width is not None
        return [None, column.width] if matrix else [None], _dtype_of_batch(np.dtype(column.dtype))

    def _width(self, rows: np.ndarray) -> int:
        first, end = self._spans(self.features[0], rows)
        return max(1, int((end - first).max(initial=0)))

    def _spans(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        offsets = self.store.offsets(column)
        return offsets[rows], offsets[rows + 1]

    def _gather(self, column: str, rows: np.ndarray, width: int) -> np.ndarray:
        values = self.store.values(column)
        dtype = _dtype_of_batch(values.dtype)
        if not self.store.manifest.columns[column].ragged:
            return values[rows].astype(dtype)
        first, end = self._spans(column, rows)
        inside = _inside(first, end, width)
        padded: np.ndarray = np.full(inside.shape, self._padding.get(column, 0), dtype)
        places = first[:, None] + np.arange(width)
        padded[inside] = values[places[inside]]
        return padded

    def _weigh(self, mask: np.ndarray, rows: np.ndarray, real: np.ndarray) -> np.ndarray:
        weights = real.astype(np.float32)
        if self._per_token:
            weights = weights[:, None] * mask
        if self._weights is not None:
            weights = weights * self._gather(self._weights, rows, mask.shape[1])
        return weights.astype(np.float32)


def _inside(first: np.ndarray, end: np.ndarray, width: int) -> np.ndarray:
    """Which positions of padded rows hold values, `<bool>[rows, width]`."""
    return np.arange(width) < (end - first)[:, None]


def _dtype_of_batch(dtype: np.dtype) -> type:
    return np.float32 if dtype.kind == "f" else np.int32
