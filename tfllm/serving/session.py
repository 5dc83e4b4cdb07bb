"""Run a bundle the way TensorFlow Serving does, in a process without TensorFlow's Python.

A session goes through the C API of the installed wheel: no kernels that Python registers, XLA
off, TensorFlow's and TF Text's ops and no others. What runs here runs in the server; what fails
here (`tf.py_function`, `jit_compile=True`, an unknown op) fails there with the same error.

From a terminal, with a request in TF Serving's REST format on stdin, the server's reply:

    $ echo '{"instances": ["a fine day"]}' | python -m tfllm.serving.session savedmodels/sst2
    {
        "predictions": [
            {
                "label": "positive",
                "score": 0.98
            }
        ]
    }
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tfllm.errors import InputError
from tfllm.serving import _c_api, _messages, _tensors
from tfllm.serving.errors import SessionError
from tfllm.serving.signature import Signature, TensorSpec

__all__ = ["Node", "Session", "newest_version", "registered_ops", "versions"]

# ConfigProto with `device_count {"GPU": 0}`: answers come from the CPU, and a training run that
# holds the GPU's memory is not in the way.
_CPU_ONLY = b"\x0a\x07\x0a\x03GPU\x10\x00"

# What TF Serving's `absl::SimpleAtoi` reads.
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of a bundle's graph.

    Attributes:
        function: name of the library function that holds it; empty for the main graph.
        name: its name there.
        op: `"MatMul"`, `"StatefulPartitionedCall"` …
        must_compile: whether it, or its function, insists on XLA (`jit_compile=True`).
    """

    function: str
    name: str
    op: str
    must_compile: bool


class Session:
    """A loaded bundle that answers requests, from several threads at once.

    Arithmetic is on the CPU. In a process that has imported TensorFlow it works too, but
    TensorFlow's Python kernels are then there and XLA stays as it is: only a fresh process proves
    that a bundle runs in the server. In a fresh process XLA is off from the first session on, also
    for a TensorFlow that is imported later.

    Attributes:
        signatures: name → what it takes and gives.

    Example:
        >>> with Session("savedmodels/sst2/1") as session:
        ...     session.run("serving_default", {"texts": ["a fine day", "a dull film"]})
        {'label': array([b'positive', b'negative'], dtype=object), 'score': array([0.98, 0.91])}
    """

    signatures: Mapping[str, Signature]

    def __init__(self, folder: str | Path) -> None:
        """Load a bundle.

        Args:
            folder: one version of a bundle: it holds `saved_model.pb` and `variables/`.

        Raises:
            InputError: the folder holds no SavedModel.
            SessionError: TensorFlow can't load it.
            RuntimeError: this process can't use TensorFlow's C API.
        """
        self._session: int | None = None
        folder = Path(folder)
        if not (folder / "saved_model.pb").is_file():
            raise InputError(
                f"{folder} holds no saved_model.pb: give a bundle's version folder, "
                "such as savedmodels/NAME/1"
            )
        # Sessions close when the last request in flight has been answered.
        self._idle = threading.Condition()
        self._running = 0
        self._graph = _c_api.library().TF_NewGraph()
        try:
            self._meta_graph = self._load(folder)
            self.signatures = _signatures(self._meta_graph)
        except BaseException:
            self.close()
            raise

    def _load(self, folder: Path) -> Any:
        tensorflow = _c_api.library()
        options = tensorflow.TF_NewSessionOptions()
        tags = (ctypes.c_char_p * 1)(b"serve")
        try:
            with _c_api.owned(tensorflow.TF_NewBuffer()) as meta_graph:
                with _c_api.new_status() as status:
                    tensorflow.TF_SetConfig(options, _CPU_ONLY, len(_CPU_ONLY), status)
                with _c_api.new_status() as status:
                    self._session = tensorflow.TF_LoadSessionFromSavedModel(
                        options,
                        None,
                        str(folder).encode(),
                        tags,
                        len(tags),
                        self._graph,
                        meta_graph,
                        status,
                    )
                return _messages.MetaGraphDef.FromString(_c_api.buffer_bytes(meta_graph))
        finally:
            tensorflow.TF_DeleteSessionOptions(options)

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Answer one request.

        Args:
            signature_name: a key of `signatures`.
            inputs: every input of the signature → an array of its dtype, or (nested) lists.
                Strings may be `str` or `bytes`.
            outputs: which outputs to compute; none named: all of them.
            timeout: seconds after which to give up, DEADLINE_EXCEEDED; None: never. An operation
                that has begun is waited for.

        Returns:
            Every output → its array; strings are object arrays of `bytes`.

        Raises:
            SessionError: with TensorFlow's code: INVALID_ARGUMENT for a request that doesn't fit
                the signature, otherwise whatever the graph ran into.
        """
        signature = self._signature(signature_name)
        _check_names(signature, inputs)
        arrays = {
            name: _input_array(name, inputs[name], spec) for name, spec in signature.inputs.items()
        }
        wanted = {name: signature.outputs[name] for name in outputs} or signature.outputs
        with self._in_flight() as session:
            return self._run(session, Signature(signature.inputs, wanted), arrays, timeout)

    def _signature(self, name: str) -> Signature:
        if name not in self.signatures:
            known = ", ".join(self.signatures) or "none"
            message = f'no signature "{name}" in this bundle, which has: {known}'
            raise SessionError("INVALID_ARGUMENT", message)
        return self.signatures[name]

    @contextmanager
    def _in_flight(self) -> Iterator[int]:
        with self._idle:
            if self._session is None:
                raise SessionError("CANCELLED", "the session is closed")
            self._running += 1
            session = self._session
        try:
            yield session
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run(
        self,
        session: int,
        signature: Signature,
        arrays: Mapping[str, np.ndarray],
        timeout: float | None,
    ) -> dict[str, np.ndarray]:
        tensorflow = _c_api.library()
        feeds = self._graph_outputs(signature.inputs)
        fetches = self._graph_outputs(signature.outputs)
        values = (ctypes.c_void_p * len(feeds))()
        results = (ctypes.c_void_p * len(fetches))()
        try:
            for i, (name, spec) in enumerate(signature.inputs.items()):
                values[i] = _tensors.new_input(arrays[name], spec.dtype)
            with _c_api.new_status() as status:
                tensorflow.TF_SessionRun(
                    session,
                    _run_options(timeout),
                    feeds,
                    values,
                    len(feeds),
                    fetches,
                    results,
                    len(fetches),
                    None,
                    0,
                    None,
                    status,
                )
            copies = [_tensors.output_array(result) for result in results if result]
            return dict(zip(signature.outputs, copies, strict=True))
        finally:
            for tensor in filter(None, [*results, *values]):
                tensorflow.TF_DeleteTensor(tensor)

    def _graph_outputs(self, specs: Mapping[str, TensorSpec]) -> ctypes.Array[_c_api.Output]:
        outputs = (_c_api.Output * len(specs))()
        for i, spec in enumerate(specs.values()):
            operation, _, index = spec.tensor.rpartition(":")
            handle = _c_api.library().TF_GraphOperationByName(self._graph, operation.encode())
            if not handle:
                raise SessionError("NOT_FOUND", f"the graph has no tensor {spec.tensor!r}")
            outputs[i] = _c_api.Output(handle, int(index))
        return outputs

    def signature_protos(self) -> dict[str, bytes]:
        """Give every signature as a serialized `SignatureDef`, the init op's among them."""
        return {
            entry.key: entry.value.SerializeToString() for entry in self._meta_graph.signature_def
        }

    def nodes(self) -> Iterator[Node]:
        """Walk the main graph, then every function of the library."""
        graph = self._meta_graph.graph_def
        for node in graph.node:
            yield Node("", node.name, node.op, _must_compile(node.attr))
        for function in graph.library.function:
            compiled = _must_compile(function.attr)
            for node in function.node_def:
                yield Node(
                    function.signature.name,
                    node.name,
                    node.op,
                    compiled or _must_compile(node.attr),
                )

    def close(self) -> None:
        """Free the model once requests in flight have been answered. Closing twice is fine."""
        with self._idle:
            session, self._session = self._session, None
            self._idle.wait_for(lambda: self._running == 0)
            graph, self._graph = self._graph, None
        tensorflow = _c_api.library()
        if session is not None:
            with _c_api.new_status() as status:
                tensorflow.TF_CloseSession(session, status)
            with _c_api.new_status() as status:
                tensorflow.TF_DeleteSession(session, status)
        if graph is not None:
            tensorflow.TF_DeleteGraph(graph)

    def __enter__(self) -> Session:
        """Give the session itself; leaving closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session."""
        self.close()


def _run_options(timeout: float | None) -> _c_api.Buffer | None:
    """Write a `RunOptions` whose only field is the time limit."""
    if timeout is None:
        return None
    milliseconds = max(int(timeout * 1000), 1)
    encoded = bytearray(b"\x10")  # field 2, `timeout_in_ms`, as a varint
    while milliseconds > 127:
        encoded.append(milliseconds & 127 | 128)
        milliseconds >>= 7
    encoded.append(milliseconds)
    data = ctypes.create_string_buffer(bytes(encoded), len(encoded))
    options = _c_api.Buffer(ctypes.cast(data, ctypes.c_void_p), len(encoded), None)
    options.kept = data  # the buffer only points at it
    return options


def _must_compile(attributes: Any) -> bool:
    return any(entry.key == "_XlaMustCompile" and entry.value.b for entry in attributes)


def _signatures(meta_graph: Any) -> dict[str, Signature]:
    # `__saved_model_init_op` is written among the signatures and is not one.
    return {
        entry.key: Signature(_specs(entry.value.inputs), _specs(entry.value.outputs))
        for entry in sorted(meta_graph.signature_def, key=lambda entry: entry.key)
        if not entry.key.startswith("__saved_model_")
    }


def _specs(entries: Any) -> dict[str, TensorSpec]:
    return {entry.key: _spec(entry.value) for entry in sorted(entries, key=lambda entry: entry.key)}


def _spec(info: Any) -> TensorSpec:
    dtype = _tensors.DTYPES.get(info.dtype, f"DataType {info.dtype}")
    if info.tensor_shape.unknown_rank:
        return TensorSpec(info.name, dtype, None)
    sizes = (dimension.size for dimension in info.tensor_shape.dim)
    return TensorSpec(info.name, dtype, tuple(None if size < 0 else size for size in sizes))


def _check_names(signature: Signature, inputs: Mapping[str, Any]) -> None:
    if inputs.keys() != signature.inputs.keys():
        message = f"the signature's inputs are {sorted(signature.inputs)}, not {sorted(inputs)}"
        raise SessionError("INVALID_ARGUMENT", message)


def _input_array(name: str, value: Any, spec: TensorSpec) -> np.ndarray:
    try:
        return _tensors.as_array(value, spec.dtype)
    except SessionError as error:
        raise SessionError(error.code, f'input "{name}" {error.message}') from error


def registered_ops() -> frozenset[str]:
    """Name every op that a server knows: TensorFlow's core and TF Text's.

    In a process that has imported TensorFlow it also holds what other packages registered.
    """
    with _c_api.owned(_c_api.library().TF_GetAllOpList()) as buffer:
        ops = _messages.OpList.FromString(_c_api.buffer_bytes(buffer))
    return frozenset(op.name for op in ops.op)


def versions(folder: str | Path) -> dict[int, Path]:
    """Map each version that TF Serving sees in a bundle's folder to its path, ascending.

    Like the server, take every name that reads as an integer, whatever it is and holds.

    Raises:
        OSError: the folder can't be listed.
    """
    found = {
        int(path.name): path for path in Path(folder).iterdir() if _INTEGER.fullmatch(path.name)
    }
    return dict(sorted(found.items()))


def newest_version(folder: str | Path) -> Path:
    """Find the version folder to load: `folder` itself, or the largest integer in it.

    Raises:
        InputError: there is none.
    """
    folder = Path(folder)
    if (folder / "saved_model.pb").is_file():
        return folder
    try:
        found = versions(folder)
    except OSError as error:
        raise InputError(f"can't read the bundle folder {folder}: {error.strerror}") from error
    if not found:
        raise InputError(
            f"{folder} is no bundle: it should hold saved_model.pb, or versions named 1, 2, 3 …"
        )
    return found[max(found)]


def _main(arguments: list[str]) -> int:
    # Imported here: a program that holds a Session needs neither.
    from tfllm.serving import rest

    if len(arguments) != 1:
        print(
            "usage: python -m tfllm.serving.session BUNDLE_FOLDER < request.json", file=sys.stderr
        )
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow first logs
    try:
        request = rest.read_json(sys.stdin.buffer.read())
        folder = newest_version(arguments[0])
        _c_api.log_errors_only()
        with Session(folder) as session:
            reply = rest.answer(session, request)
    except (InputError, SessionError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    sys.stdout.buffer.write(reply + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
