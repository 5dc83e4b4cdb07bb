"""NumPy arrays ↔ `TensorProto`, as TensorFlow itself packs them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfllm.serving._protos import tensor_pb2
from tfllm.serving._tensors import DTYPES

__all__ = ["array_of", "proto_of"]

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
    getattr(proto, _FIELDS[name]).extend(flat.tolist())
    return proto


def array_of(proto: Any) -> np.ndarray:
    """Unpack a `TensorProto`; strings become an object array of `bytes`.

    Fewer values than the shape says are filled up with the last one, none with zeros.

    Raises:
        ValueError: its shape, dtype and bytes don't fit each other.
    """
    name = DTYPES.get(proto.dtype, "")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if name not in _FIELDS or proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError("a TensorProto without a known dtype and shape")
    if name == "string":
        return _strings(list(proto.string_val), math.prod(shape)).reshape(shape)
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  # makes NumPy know the name
    dtype = np.dtype(name)
    count = math.prod(shape)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise ValueError("tensor_content is not as long as the shape says")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape).copy()
    values = getattr(proto, _FIELDS[name])
    if _FIELDS[name] == "half_val":
        return _filled(np.array(values, np.uint16), count).view(dtype).reshape(shape)
    wide = np.array(values, np.int64) if _FIELDS[name] == "int_val" else np.array(values, dtype)
    return _filled(wide.astype(dtype), count).reshape(shape)


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    if not len(values):
        return np.zeros(count, values.dtype)
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])


def _strings(values: list[bytes], count: int) -> np.ndarray:
    last = values[-1] if values else b""
    strings = np.empty(count, dtype=object)
    strings[:] = (values + [last] * (count - len(values)))[:count]
    return strings
