"""NumPy arrays ↔ `TensorProto`, as TensorFlow itself packs them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfllm.serving._protos import tensor_pb2
from tfllm.serving._tensors import DTYPES

__all__ = ["array_of", "filled_bytes", "proto_of"]

_POINTER_BYTES = 8  # of a string in an object array
_TSTRING_BYTES = 24  # of a string in a TensorFlow tensor, beside its characters
_MOST_AXES = 254  # of a TensorFlow tensor
_CHUNK = 65_536  # values moved at once; in between, other threads have their turn

_NUMBERS = {name: number for number, name in DTYPES.items()}

# dtype → the message's field that holds its values
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
    "float16": "half_val",
    "bfloat16": "half_val",
}


def proto_of(array: np.ndarray) -> Any:
    """Pack an array into a `TensorProto`, in the field of its dtype as the server does.

    Args:
        array: `<number, bool>[...]`, or an object array of `bytes`.

    Raises:
        ValueError: the dtype has no such field.
    """
    name = "string" if array.dtype == object else array.dtype.name
    if name not in _FIELDS:
        raise ValueError(f"can't send a tensor of {name}")
    proto = tensor_pb2.TensorProto(dtype=_NUMBERS[name])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if _FIELDS[name] == "half_val":
        flat = flat.view(np.uint16)
    field = getattr(proto, _FIELDS[name])
    for start in range(0, flat.size, _CHUNK):
        field.extend(flat[start : start + _CHUNK].tolist())
    return proto


def filled_bytes(proto: Any) -> int:
    """Say how many bytes `array_of` fills in beyond the values that were sent.

    A few bytes can ask for any number, so what comes from elsewhere is asked this first.

    Raises:
        ValueError: its shape, dtype and bytes don't fit each other.
    """
    name, shape = _dtype_and_shape(proto)
    missing = math.prod(shape) - len(getattr(proto, _FIELDS[name]))
    if proto.tensor_content and name != "string":
        _check_content(proto, name, math.prod(shape))
        return 0
    if name != "string":
        return max(missing, 0) * _numpy_dtype(name).itemsize
    characters = len(proto.string_val[-1]) if proto.string_val else 0
    return max(missing, 0) * (_POINTER_BYTES + _TSTRING_BYTES + characters)


def array_of(proto: Any) -> np.ndarray:
    """Unpack a `TensorProto`; strings become an object array of `bytes`.

    Fewer values than the shape says are filled up with the last one, none with zeros.

    Raises:
        ValueError: its shape, dtype and bytes don't fit each other.
    """
    name, shape = _dtype_and_shape(proto)
    count = math.prod(shape)
    if name == "string":
        return _filled(proto.string_val, np.dtype(object), count, b"").reshape(shape)
    dtype = _numpy_dtype(name)
    if proto.tensor_content:
        _check_content(proto, name, count)
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape).copy()
    values = getattr(proto, _FIELDS[name])
    if _FIELDS[name] == "half_val":
        return _filled(values, np.dtype(np.uint16), count).view(dtype).reshape(shape)
    return _filled(values, dtype, count).reshape(shape)


def _dtype_and_shape(proto: Any) -> tuple[str, tuple[int, ...]]:
    name = DTYPES.get(proto.dtype, "")
    known = name in _FIELDS and not proto.tensor_shape.unknown_rank
    if not known or len(proto.tensor_shape.dim) > _MOST_AXES:
        raise ValueError("a TensorProto without a known dtype and shape")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if min(shape, default=0) < 0:
        raise ValueError("a TensorProto with a size below 0")
    return name, shape


def _numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  # makes NumPy know the name
    return np.dtype(name)


def _check_content(proto: Any, name: str, count: int) -> None:
    if len(proto.tensor_content) != count * _numpy_dtype(name).itemsize:
        raise ValueError("tensor_content is not as long as the shape says")


def _filled(values: Any, dtype: np.dtype, count: int, empty: Any = 0) -> np.ndarray:
    """Lay out the values of a message, then the last of them until there are enough."""
    sent = min(len(values), count)
    array = np.full(count, empty, dtype)
    # The messages' `int_val` and `half_val` are wider than what they stand for.
    wide = np.dtype(np.int64) if dtype.kind in "iu" and dtype.itemsize < 4 else dtype
    for start in range(0, sent, _CHUNK):
        chunk = values[start : min(start + _CHUNK, sent)]
        array[start : start + len(chunk)] = np.array(chunk, wide).astype(dtype)
    if 0 < sent < count:
        array[sent:] = array[sent - 1]
    return array
