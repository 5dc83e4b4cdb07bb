"""What a REST request holds → the arrays that a signature takes, as TensorFlow Serving does it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tfllm.serving._json_reader import JsonObject
from tfllm.serving._json_writer import debug_text
from tfllm.serving.errors import SessionError
from tfllm.serving.signature import Signature

__all__ = ["dtype_text", "inputs_of", "refusal"]

_TYPES = {float: "Number", int: "Number", bytes: "String", list: "Array", JsonObject: "Object"}
_DTYPE_TEXTS = {"float32": "float", "float64": "double", "float16": "half"}

# dtype → smallest and largest integer that is taken. The narrow ones are read as int32 and wrap.
_INTEGERS = {
    "int8": (-(2**31), 2**31 - 1),
    "int16": (-(2**31), 2**31 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint8": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_FLOATS = ("float32", "float64")
_MAX_RANK = 254  # of any tensor
_BASE64 = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")

_ONE_OF = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
_SEVERAL = (
    "is a plain {}, but expecting {} as multiple input tensors required as per tensorinfo_map"
)


def inputs_of(request: JsonObject, signature: Signature) -> tuple[dict[str, np.ndarray], bool]:
    """Turn a request's `instances` (rows) or `inputs` (columns) into arrays.

    Returns:
        every input → an array of its dtype (strings: an object array of `bytes`); and whether the
        request came in rows.

    Raises:
        SessionError: the request doesn't fit, in the server's words.
    """
    if b"instances" in request and b"inputs" in request:
        raise _format_error(request, _ONE_OF)
    if b"instances" in request:
        return _from_rows(request, signature), True
    if b"inputs" in request:
        return _from_columns(request.get(b"inputs"), signature), False
    raise refusal("Missing 'inputs' or 'instances' key")


def refusal(message: str) -> SessionError:
    """Make the error of a request that doesn't fit."""
    return SessionError("INVALID_ARGUMENT", message)


def dtype_text(dtype: str) -> str:
    """Spell a dtype as TensorFlow's messages do: `float`, not `float32`."""
    return _DTYPE_TEXTS.get(dtype, dtype)


def _format_error(value: Any, message: str) -> SessionError:
    return refusal(f"JSON Value: {debug_text(value)} {message}")


def _type_error(value: Any, dtype: str) -> SessionError:
    kind = str(value) if isinstance(value, bool) else _TYPES.get(type(value), "Null")
    message = f"Type: {kind} is not of expected type: {dtype_text(dtype)}"
    return _format_error(value, message)


def _is_binary(value: Any) -> bool:
    return (
        isinstance(value, JsonObject)
        and [name for name, _ in value.members] == [b"b64"]
        and isinstance(value.get(b"b64"), bytes)
    )


def _is_named(value: Any) -> bool:
    return isinstance(value, JsonObject) and not _is_binary(value)


class _Column:
    """One input's values, gathered row by row."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.values: list[Any] = []
        self.row_size = 0
        self.row_shape: list[int] | None = None

    def add_row(self, row: Any) -> None:
        shape = _shape(row)
        before = len(self.values)
        _fill(row, shape, self.dtype, self.values)
        size = len(self.values) - before
        if self.row_shape is None:
            self.row_size, self.row_shape = size, shape
        elif size != self.row_size:
            raise refusal(f"Expecting tensor size: {self.row_size} but got: {size}")
        elif shape != self.row_shape:
            wanted, got = _shape_text(self.row_shape), _shape_text(shape)
            raise refusal(f"Expecting shape {wanted} but got: {got}")

    def array(self, rows: int) -> np.ndarray:
        return _array(self.values, [rows, *(self.row_shape or [])], self.dtype)


def _from_rows(request: JsonObject, signature: Signature) -> dict[str, np.ndarray]:
    rows = request.get(b"instances")
    if not isinstance(rows, list):
        raise _format_error(request, "Expecting 'instances' to be an list/array")
    if not rows:
        raise _format_error(request, "No values in 'instances' array")
    if not isinstance(rows[0], JsonObject) and len(signature.inputs) > 1:
        raise refusal(f"instances {_SEVERAL.format('list', 'list of objects')}")
    columns = {name: _Column(spec.dtype) for name, spec in signature.inputs.items()}
    add = _add_named if _is_named(rows[0]) else _add_bare
    for number, row in enumerate(rows):
        add(row, number, columns)
    return {name: column.array(len(rows)) for name, column in columns.items()}


def _add_bare(row: Any, number: int, columns: dict[str, _Column]) -> None:
    if _is_named(row):
        raise refusal(f"Expecting value/list but got object at item {number} of input list")
    try:
        next(iter(columns.values())).add_row(row)
    except SessionError as error:
        raise _row_error(f"{number} of", error) from error


def _add_named(row: Any, number: int, columns: dict[str, _Column]) -> None:
    if not _is_named(row):
        raise refusal(f"Expecting object but got list at item {number} of input list")
    names = [_name(name) for name, _ in row.members]
    for name, (_, value) in zip(names, row.members, strict=True):
        try:
            if name not in columns:
                raise refusal(f"JSON object: does not have named input: {name}")
            columns[name].add_row(value)
        except SessionError as error:
            raise _row_error(f"{number} key: {name} of", error) from error
    if set(names) != columns.keys():
        message = f"{debug_text(row)} keys must be equal to: {','.join(sorted(columns))}"
        place = f"Failed to process element: {number} of 'instances' list."
        raise refusal(f"{place} JSON object: {message}")


def _row_error(place: str, error: SessionError) -> SessionError:
    return refusal(f"Failed to process element: {place} 'instances' list. Error: {error}")


def _name(name: bytes) -> str:
    """Read a key as the server does here: up to a NUL."""
    return name.partition(b"\x00")[0].decode(errors="surrogateescape")


def _from_columns(columns: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not _is_named(columns):
        if len(signature.inputs) > 1:
            raise refusal(f"inputs {_SEVERAL.format('value/list', 'an object')}")
        name, spec = next(iter(signature.inputs.items()))
        return {name: _column(columns, spec.dtype)}
    arrays = {}
    for name, spec in signature.inputs.items():
        key = name.encode(errors="surrogateescape")
        if key not in columns:
            raise refusal(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _column(columns.get(key), spec.dtype)
    return arrays


def _column(value: Any, dtype: str) -> np.ndarray:
    values: list[Any] = []
    shape = _shape(value)
    _fill(value, shape, dtype, values)
    return _array(values, shape, dtype)


def _shape(value: Any) -> list[int]:
    """Take sizes from the first element of each level; `_fill` checks the others."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise refusal(f"a tensor has at most {_MAX_RANK} dimensions")
        value = value[0] if value else None
    return shape


def _shape_text(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _fill(value: Any, shape: list[int], dtype: str, values: list[Any], level: int = 0) -> None:
    """Append a nested list's scalars, in order, each checked."""
    if not isinstance(value, list):
        if level != len(shape):
            place = f"found at incorrect level: {level + 1} in the JSON DOM."
            raise _format_error(value, f"{place} Expected at level: {len(shape)}")
        values.append(_SCALARS.get(dtype, _unsupported)(value, dtype))
        return
    if level >= len(shape):
        expected = f"expected < {len(shape)}"
        raise refusal(f"Encountered list at unexpected level: {level} {expected}")
    if len(value) != shape[level]:
        place = f"{len(value)} at level: {level} expected size: {shape[level]}"
        raise refusal(f"Encountered list at unexpected size: {place}")
    for item in value:
        _fill(item, shape, dtype, values, level + 1)


def _integer(value: Any, dtype: str) -> int:
    smallest, largest = _INTEGERS[dtype]
    if type(value) is int and smallest <= value <= largest:
        return value
    raise _type_error(value, dtype)


def _float(value: Any, dtype: str) -> float:
    if type(value) is int or type(value) is float:
        return float(value)
    raise _type_error(value, dtype)


def _bool(value: Any, dtype: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _type_error(value, dtype)


def _string(value: Any, dtype: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, JsonObject):
        raise _type_error(value, dtype)
    if not _is_binary(value):
        raise _format_error(value, "not formatted correctly for base64 data")
    return _decoded(value.get(b"b64"))


def _decoded(text: bytes) -> bytes:
    """Decode base64 in the standard alphabet: white space passes, padding may be left out."""
    match = _BASE64.fullmatch(b"".join(text.split()))
    data, padding = match.groups() if match else (b"?", b"")
    missing = -len(data) % 4
    if match is None or missing == 3 or len(padding) not in (0, missing):
        raise refusal("Unable to base64 decode")
    return base64.b64decode(data + b"=" * missing)


def _unsupported(value: Any, dtype: str) -> Any:
    if isinstance(value, JsonObject):
        raise _type_error(value, dtype)
    message = f"Conversion of JSON Value: {debug_text(value)} to type: {dtype_text(dtype)}"
    raise SessionError("UNIMPLEMENTED", message)


_SCALARS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(_FLOATS, _float),
    "bool": _bool,
    "string": _string,
}


def _array(values: list[Any], shape: list[int], dtype: str) -> np.ndarray:
    # A key that a row holds twice gives too many values; the server takes as many as fit.
    values = values[: int(np.prod(shape, dtype=np.int64))]
    if dtype == "string":
        strings = np.empty(len(values), dtype=object)
        strings[:] = values
        return strings.reshape(shape)
    if dtype not in _SCALARS:
        return np.empty(shape, dtype=object)  # empty, or `_unsupported` would have spoken
    wide = "float64" if dtype in _FLOATS else dtype if dtype.endswith("64") else "int64"
    with np.errstate(over="ignore"):  # a double beyond float32 is infinite
        return np.array(values, dtype=wide).astype(dtype).reshape(shape)
