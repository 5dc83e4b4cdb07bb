"""NumPy arrays ↔ TensorFlow's C tensors."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from tfllm.serving import _c_api
from tfllm.serving.errors import SessionError

__all__ = ["DTYPES", "as_array", "new_input", "output_array"]

_STRING = 7
_STRING_BYTES = 24  # sizeof(TF_TString)

# enum DataType of tensorflow/core/framework/types.proto
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    _STRING: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
}
_NUMBERS = {name: number for number, name in DTYPES.items()}
_NOT_FED = {"bfloat16", "resource", "variant"}
_NOT_FETCHED = {"resource", "variant"}


def as_array(value: Any, dtype: str) -> np.ndarray:
    """Turn what a caller gives into an array that a tensor of `dtype` can hold.

    Arrays must have the dtype already, as in TF Serving. Lists and scalars are converted where
    that loses nothing. Strings become an object array of bytes: text is encoded as UTF-8.

    Raises:
        SessionError: INVALID_ARGUMENT, the value doesn't fit.
    """
    if dtype in _NOT_FED:
        raise SessionError("UNIMPLEMENTED", f"can't feed a tensor of {dtype}")
    try:
        return _strings(value) if dtype == "string" else _numbers(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SessionError("INVALID_ARGUMENT", f"expects {dtype}: {error}") from error


def _strings(value: Any) -> np.ndarray:
    # Never by way of NumPy's "S" dtype, which drops trailing NULs.
    texts = np.array(value, dtype=object)
    encoded = np.empty(texts.shape, dtype=object)
    encoded.ravel()[:] = [_encoded(text) for text in texts.ravel()]
    return encoded


def _encoded(text: Any) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    raise TypeError(f"received {type(text).__name__} where text or bytes should be")


def _numbers(value: Any, dtype: str) -> np.ndarray:
    given = np.asarray(value)
    if isinstance(value, np.ndarray | np.generic) and given.dtype != dtype:
        raise TypeError(f"received an array of {given.dtype}")
    wanted = np.dtype(dtype)
    whole = given.dtype.kind in "iu" and wanted.kind in "iu"
    if given.size and not whole and not np.can_cast(given.dtype, wanted, casting="same_kind"):
        raise TypeError(f"received {given.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, as in the server
        converted = np.ascontiguousarray(given, dtype=wanted).reshape(given.shape)
    if whole and (converted != given).any():
        raise OverflowError("a number is out of range")
    return converted


def new_input(array: np.ndarray, dtype: str) -> int:
    """Copy an array made by `as_array` into a new `TF_Tensor`.

    `TF_DeleteTensor` lets go of it, and TensorFlow frees it, strings' characters included, when the
    graph has let go of it too.
    """
    tensorflow = _c_api.library()
    is_string = dtype == "string"
    byte_count = array.size * _STRING_BYTES if is_string else array.nbytes
    sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = tensorflow.TF_AllocateTensor(_NUMBERS[dtype], sizes, array.ndim, byte_count)
    data = tensorflow.TF_TensorData(tensor)
    if is_string:
        for i, text in enumerate(array.ravel()):
            tensorflow.TF_StringInit(data + i * _STRING_BYTES)
            tensorflow.TF_StringCopy(data + i * _STRING_BYTES, text, len(text))
    elif byte_count:
        ctypes.memmove(data, array.ctypes.data, byte_count)
    return tensor


def output_array(tensor: int) -> np.ndarray:
    """Copy a `TF_Tensor` into an array; strings become an object array of bytes.

    Raises:
        SessionError: UNIMPLEMENTED, NumPy has no such dtype.
    """
    tensorflow = _c_api.library()
    number = tensorflow.TF_TensorType(tensor)
    dtype = DTYPES.get(number, f"DataType {number}")
    if dtype not in _NUMBERS or dtype in _NOT_FETCHED:
        raise SessionError("UNIMPLEMENTED", f"can't fetch a tensor of {dtype}")
    shape = tuple(tensorflow.TF_Dim(tensor, axis) for axis in range(tensorflow.TF_NumDims(tensor)))
    data = tensorflow.TF_TensorData(tensor)
    if dtype == "string":
        texts = np.empty(math.prod(shape), dtype=object)
        texts[:] = [_string_at(data + i * _STRING_BYTES) for i in range(texts.size)]
        return texts.reshape(shape)
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  # TensorFlow brings it; it makes NumPy know the name
    array = np.empty(shape, dtype=dtype)
    if array.nbytes:
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
    return array


def _string_at(address: int) -> bytes:
    tensorflow = _c_api.library()
    size = tensorflow.TF_StringGetSize(address)
    return ctypes.string_at(tensorflow.TF_StringGetDataPointer(address), size)
