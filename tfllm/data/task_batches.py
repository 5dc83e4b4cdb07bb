"""Examples of a task, encoded and batched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tfllm.data.array_building import build_array_store
from tfllm.data.bucket_plan import BucketPlan
from tfllm.data.encoders.encoder import Encoder
from tfllm.data.pipeline_rows import RowBatches

__all__ = ["task_batches"]


class TaskEncoder(Encoder, Protocol):
    """An encoder that says what its columns are for."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes."""
        ...

    @property
    def target_column(self) -> str | None:
        """The column to predict, if any."""
        ...

    @property
    def weight_column(self) -> str | None:
        """The column that says which targets count; None where all do."""
        ...


def task_batches(
    examples: Iterable[Mapping[str, Any]],
    encoder: TaskEncoder,
    global_batch_size: int,
    seed: int | None = None,
) -> RowBatches:
    """Tokenize examples, once for all runs, and batch those of like length.

    Args:
        examples: see `build_array_store`.
        encoder: of the task.
        global_batch_size: rows of a step.
        seed: shuffles, and fills an epoch's last batch with rows of weight 0; None for a fixed
            order, in which every row comes once.

    Raises:
        InputError: see `build_array_store`.
    """
    store = build_array_store(examples, encoder)
    return RowBatches(
        store,
        BucketPlan(store.lengths("input_ids"), global_batch_size, seed),
        targets=encoder.target_column,
        weights=encoder.weight_column,
        features=encoder.features,
        fill_rows=seed is not None,
    )
