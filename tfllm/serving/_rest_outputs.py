"""A signature's outputs → the JSON of TensorFlow Serving's reply, byte for byte."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np

from tfllm.serving._json_writer import decimals, nested, quoted
from tfllm.serving._rest_inputs import dtype_text, refusal

__all__ = ["columns_json", "rows_json"]

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")


def rows_json(outputs: Mapping[str, np.ndarray]) -> str:
    """Write `{"predictions": […]}`: one row per line of the batch.

    Raises:
        SessionError: the outputs have no common first dimension, or a dtype that JSON has not.
    """
    rows = _rows(outputs)
    columns = [_row_texts(name, array, len(outputs) > 1) for name, array in outputs.items()]
    if len(columns) > 1:
        across = zip(*columns, strict=True)
        objects = [_object(dict(zip(outputs, row, strict=True)), 2) for row in across]
        return _object({"predictions": nested(objects, [rows], 1)}, 0)
    body = f"[{', '.join(columns[0])}\n    ]" if rows else "[]"
    return _object({"predictions": body}, 0)


def columns_json(outputs: Mapping[str, np.ndarray]) -> str:
    """Write `{"outputs": …}`: one value, or one member per output.

    Raises:
        SessionError: an output has a dtype that JSON has not.
    """
    if not outputs:
        raise refusal("Cannot convert empty tensor map to JSON")
    level = 1 if len(outputs) == 1 else 2
    texts = {
        name: nested(_texts(name, array, level + array.ndim), array.shape, level)
        for name, array in outputs.items()
    }
    body = next(iter(texts.values())) if len(texts) == 1 else _object(texts, 1)
    return _object({"outputs": body}, 0)


def _rows(outputs: Mapping[str, np.ndarray]) -> int:
    if not outputs:
        raise refusal("Cannot convert empty tensor map to JSON")
    rows = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise refusal(f"Tensor name: {name} has no shape information ")
        if rows not in (-1, len(array)):
            place = f"{name} has inconsistent batch size: {len(array)} expecting: {rows}"
            raise refusal(f"Tensor name: {place}")
        rows = len(array)
    return rows


def _row_texts(name: str, array: np.ndarray, is_member: bool) -> list[str]:
    """Write every row of an output on one line."""
    # Open around a row: the reply's object, its list, and the row's own object.
    level = 3 if is_member else 2
    values = _texts(name, array, level + array.ndim - 1)
    size = len(values) // len(array) if len(array) else 0
    rows = [values[row * size : (row + 1) * size] for row in range(len(array))]
    return [nested(row, array.shape[1:]) for row in rows]


def _object(members: Mapping[str, str], level: int) -> str:
    indent = "    " * (level + 1)
    lines = [f"\n{indent}{quoted(name)}: {text}" for name, text in members.items()]
    return f"{{{','.join(lines)}\n{'    ' * level}}}"


def _texts(name: str, array: np.ndarray, level: int) -> list[str]:
    """Write every scalar of an output.

    Args:
        name: of the output; where it ends in `_bytes`, strings are written in base64.
        array: `<any>[...]`.
        level: how many containers are open around a scalar.
    """
    if array.dtype == object:
        if name.endswith("_bytes"):
            return [_binary(item, level) for item in array.ravel()]
        return [quoted(item) for item in array.ravel()]
    kind = array.dtype.name
    if kind in ("float32", "float64"):
        return decimals(array)
    if kind in _INTEGERS:
        return [str(value) for value in array.ravel().tolist()]
    if kind == "bool":
        return ["true" if value else "false" for value in array.ravel()]
    if array.size:
        raise refusal(f"Failed to write JSON value for tensor type: {dtype_text(kind)}")
    return []


def _binary(item: bytes, level: int) -> str:
    return _object({"b64": quoted(base64.b64encode(item))}, level)
