"""Rows of a store, padded, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfllm.data.array_store import ArrayStore
from tfllm.data.step_dataset import Batch, step_dataset
from tfllm.data.step_rows import RowsPlan

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["RowBatches"]


class RowBatches:
    """Rows of a store as padded batches for a task.

    Attributes:
        store: its ragged columns are features, all but the targets.
        plan: which rows each step reads.
        targets: the column to predict: one value a row, or one for each token.
    """

    def __init__(
        self,
        store: ArrayStore,
        plan: RowsPlan,
        *,
        targets: str,
        weights: str | None = None,
        padding: Mapping[str, int] | None = None,
        fill_rows: bool = True,
    ) -> None:
        """Choose the columns.

        Args:
            store: `input_ids` and other ragged columns, of equal lengths in each row.
            plan: `RowPlan`, `BucketPlan` or `BudgetPlan` over the store's rows.
            targets: the column to predict.
            weights: a column of weights of the same shape; None: 1 everywhere but on padding.
            padding: value beyond a row's end, by column; 0 where none is named.
            fill_rows: whether an epoch's last batch is filled up to its full size, with rows of
                weight 0; else it is smaller.
        """
        self.store = store
        self.plan = plan
        self.targets = targets
        self.steps_per_epoch = plan.steps_per_epoch
        self._weights = weights
        self._padding = dict(padding or {})
        self._fill_rows = fill_rows
        columns = store.manifest.columns
        others = (targets, weights)
        self._features = [name for name in columns if columns[name].ragged and name not in others]

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather and pad the rows of one step, or one worker's share of them.

        Returns:
            features: each ragged column as `<int32>[rows, width]`, and `attention_mask`
            `<int32>[rows, width]`, 1 on tokens; targets `[rows]` or `[rows, width]` of the
            column's dtype, integers as int32; weights `<float32>` of the same shape. A row that
            the step lacks repeats another one, with weight 0: a row of padding alone would leave
            its attention nothing to see.

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
        features = {name: self._gather(name, rows, width) for name in self._features}
        mask = _inside(*self._spans(self._features[0], rows), width)
        features["attention_mask"] = mask.astype(np.int32)
        targets = self._gather(self.targets, rows, width)
        return features, targets, self._weigh(targets, mask, rows, real)

    def dataset(
        self, first_step: int = 0, steps: int | None = None, *, worker: int = 0, workers: int = 1
    ) -> tf.data.Dataset:
        """Give the batches of some steps, prefetched; rows and width are unknown to the graph.

        Args:
            first_step: where to start; costs the same for every value.
            steps: how many; None for one pass.
            worker: counts from 0.
            workers: how many share the rows of each step.

        Returns:
            `(features, targets, weights)`, see `batch`.
        """
        import tensorflow as tf

        ids = tf.TensorSpec([None, None], tf.int32)
        features = dict.fromkeys((*self._features, "attention_mask"), ids)
        column = self.store.manifest.columns[self.targets]
        shape = [None, None] if column.ragged else [None]
        targets = tf.TensorSpec(shape, tf.as_dtype(_dtype_of_batch(np.dtype(column.dtype))))
        count = self.steps_per_epoch if steps is None else steps
        return step_dataset(
            lambda step: self.batch(step, worker, workers),
            (features, targets, tf.TensorSpec(shape, tf.float32)),
            first_step,
            count,
            shared_out=workers > 1,
        )

    def _width(self, rows: np.ndarray) -> int:
        first, end = self._spans(self._features[0], rows)
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

    def _weigh(
        self, targets: np.ndarray, mask: np.ndarray, rows: np.ndarray, real: np.ndarray
    ) -> np.ndarray:
        weights = real.astype(np.float32)
        if targets.ndim == 2:
            weights = weights[:, None] * mask
        if self._weights is not None:
            weights = weights * self._gather(self._weights, rows, mask.shape[1])
        return weights.astype(np.float32)


def _inside(first: np.ndarray, end: np.ndarray, width: int) -> np.ndarray:
    """Which positions of padded rows hold values, `<bool>[rows, width]`."""
    return np.arange(width) < (end - first)[:, None]


def _dtype_of_batch(dtype: np.dtype) -> type:
    return np.float32 if dtype.kind == "f" else np.int32
