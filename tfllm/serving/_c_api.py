"""The C API of the installed TensorFlow wheel, through ctypes.

Only what a session needs. Loading the two shared libraries gives TensorFlow's ops and kernels as a
server has them: those that Python registers (`tf.py_function`) are not there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import sys
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

from tfllm.serving.errors import SessionError

__all__ = ["Buffer", "Output", "buffer_bytes", "library", "log_errors_only", "new_status", "owned"]

# enum TF_Code
_CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}


class Buffer(ctypes.Structure):
    """`TF_Buffer`: bytes that TensorFlow owns."""

    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


class Output(ctypes.Structure):
    """`TF_Output`: the `index`-th output of a graph's operation."""

    _fields_ = [("oper", c_void_p), ("index", c_int)]


# function → (result, arguments). Handles are untyped pointers.
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "TF_NewStatus": (c_void_p, []),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewBuffer": (POINTER(Buffer), []),
    "TF_DeleteBuffer": (None, [POINTER(Buffer)]),
    "TF_LoadLibrary": (c_void_p, [c_char_p, c_void_p]),
    "TF_GetAllOpList": (POINTER(Buffer), []),
    "TF_NewGraph": (c_void_p, []),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_SetConfig": (None, [c_void_p, c_char_p, c_size_t, c_void_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [
            c_void_p,
            POINTER(Buffer),
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(Buffer),
            c_void_p,
        ],
    ),
    "TF_CloseSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_SessionRun": (
        None,
        [
            c_void_p,
            POINTER(Buffer),
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(c_void_p),
            c_int,
            POINTER(Buffer),
            c_void_p,
        ],
    ),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_StringInit": (None, [c_void_p]),
    "TF_StringCopy": (None, [c_void_p, c_char_p, c_size_t]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
}

# `void tensorflow::DisableXlaCompilation()`, which TF Serving calls when it starts.
_DISABLE_XLA = "_ZN10tensorflow21DisableXlaCompilationEv"

# `void absl::SetMinLogLevel(absl::LogSeverityAtLeast)`, as TensorFlow 2.20's wheel spells it.
_SET_MIN_LOG_LEVEL = "_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE"
_ERROR = 2


@functools.cache
def library() -> ctypes.CDLL:
    """Load TensorFlow and TF Text's ops once in this process.

    Where TensorFlow's Python is not loaded, XLA is switched off for the whole process, as TF
    Serving does. Where it is, somebody may be training with XLA, so that it is left alone.

    Raises:
        RuntimeError: the wheels are not there, or not such as can be driven from C.
    """
    try:
        tensorflow = ctypes.CDLL(str(_package_folder("tensorflow") / "libtensorflow_cc.so.2"))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(tensorflow, name)
            function.restype, function.argtypes = result, arguments
        if "tensorflow" not in sys.modules:
            getattr(tensorflow, _DISABLE_XLA)()
    except (OSError, AttributeError) as error:
        raise RuntimeError(
            "a session needs the Linux wheel of TensorFlow 2.20 and the C API in its "
            f"libtensorflow_cc.so.2, and this process can't use it: {error}"
        ) from error
    _load_text_ops(tensorflow)
    return tensorflow


def _package_folder(package: str) -> Path:
    """Say where a package is installed, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"a session needs the package {package!r}, which is not installed")
    return Path(spec.submodule_search_locations[0])


def _load_text_ops(tensorflow: ctypes.CDLL) -> None:
    folder = _package_folder("tensorflow_text") / "python" / "ops"
    paths = sorted(folder.glob("*.so"))
    if not paths:
        raise RuntimeError(f"a session needs TF Text's op libraries, and {folder} holds none")
    for path in paths:
        # TensorFlow keeps the handle for the life of the process.
        with _status(tensorflow) as status:
            tensorflow.TF_LoadLibrary(str(path).encode(), status)


@contextlib.contextmanager
def _status(tensorflow: ctypes.CDLL) -> Iterator[int]:
    handle = tensorflow.TF_NewStatus()
    try:
        yield handle
        code = tensorflow.TF_GetCode(handle)
        if code:
            message = tensorflow.TF_Message(handle).decode(errors="replace")
            raise SessionError(_CODES.get(code, "UNKNOWN"), message)
    finally:
        tensorflow.TF_DeleteStatus(handle)


def new_status() -> contextlib.AbstractContextManager[int]:
    """Lend a `TF_Status`; on leaving, raise what TensorFlow wrote into it.

    Raises:
        SessionError: the status isn't OK.
    """
    return _status(library())


@contextlib.contextmanager
def owned(buffer: ctypes._Pointer[Buffer]) -> Iterator[ctypes._Pointer[Buffer]]:
    """Lend a `TF_Buffer` and free it on leaving."""
    try:
        yield buffer
    finally:
        library().TF_DeleteBuffer(buffer)


def log_errors_only() -> None:
    """Keep TensorFlow's notes on its start-up off stderr, for the whole process.

    Through abseil, because some are not subject to `TF_CPP_MIN_LOG_LEVEL`. A wheel that spells the
    function otherwise logs as ever.
    """
    with contextlib.suppress(AttributeError):
        getattr(library(), _SET_MIN_LOG_LEVEL)(_ERROR)


def buffer_bytes(buffer: ctypes._Pointer[Buffer]) -> bytes:
    """Copy a `TF_Buffer`'s bytes."""
    return ctypes.string_at(buffer.contents.data, buffer.contents.length)
