"""Requests cut into batches, and their replies joined in order."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllm.errors import InputError

__all__ = ["batch_size", "column_batches", "join_arrays", "join_columns", "row_batches"]


def batch_size(size: int | None) -> int | None:
    """Check a client's `max_batch_size`.

    Raises:
        InputError: no row would fit.
    """
    if size is not None and (not isinstance(size, numbers.Integral) or size < 1):
        raise InputError(
            f"max_batch_size must be at least 1, or None: no limit. Received: {size!r}"
        )
    return size


def row_batches(rows: Sequence[Any], size: int | None) -> list[Sequence[Any]]:
    """Cut rows into pieces of at most `size`; None: leave them whole.

    Raises:
        InputError: they are no list.
    """
    if _count(rows) is None:
        raise InputError(f"instances must be a list of rows. Received: {type(rows).__name__}")
    if size is None or len(rows) <= size:
        return [rows]
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def column_batches(inputs: Any, size: int | None) -> list[Any]:
    """Cut columns likewise.

    Args:
        inputs: input → its rows, or the rows of the only input. What has no rows, or not all the
            same number, is left whole.
        size: rows at most; None: leave them whole.
    """
    columns = inputs if isinstance(inputs, Mapping) else {"": inputs}
    counts = {_count(column) for column in columns.values()}
    if size is None or len(counts) != 1 or (rows := counts.pop()) is None or rows <= size:
        return [inputs]
    if not isinstance(inputs, Mapping):
        return [inputs[start : start + size] for start in range(0, rows, size)]
    return [
        {name: column[start : start + size] for name, column in inputs.items()}
        for start in range(0, rows, size)
    ]


def _count(column: Any) -> int | None:
    if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
        return None
    return None if getattr(column, "ndim", 1) == 0 else len(column)


def join_columns(replies: Sequence[Any]) -> Any:
    """Lay replies in columns one behind the other."""
    if len(replies) == 1:
        return replies[0]
    if isinstance(replies[0], Mapping):
        return {name: [row for reply in replies for row in reply[name]] for name in replies[0]}
    return [row for reply in replies for row in reply]


def join_arrays(name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Lay one output's replies one behind the other.

    Raises:
        InputError: if they can't be: each is as wide as its own batch's longest row.
    """
    widths = sorted({array.shape[1:] for array in arrays})
    if len(widths) > 1:
        raise InputError(
            f"the output {name!r} has another width in each batch, so that they can't be joined: "
            f"{', '.join(map(str, widths[:5]))}. Ask without max_batch_size, or batch by batch"
        )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
