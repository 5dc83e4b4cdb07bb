"""A client of TensorFlow Serving's gRPC interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from tfllm.errors import InputError
from tfllm.serving._protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tfllm.serving._tensor_protos import array_of, proto_of
from tfllm.serving._tensors import DTYPES, as_array
from tfllm.serving.client import _arguments, _batches
from tfllm.serving.client._blocking_client import BlockingClient
from tfllm.serving.client.errors import (
    NotServedError,
    RequestRefusedError,
    ServerBusyError,
    ServerFailedError,
    ServerTimeoutError,
    ServerUnreachableError,
    ServingError,
)
from tfllm.serving.client.version_status import VersionStatus
from tfllm.serving.errors import SessionError

__all__ = ["GrpcClient"]

_DEFAULT_SIGNATURE = "serving_default"
_MOST_KEPT = 64  # signatures whose dtypes are remembered
_Chosen = tuple[str, int | None, str | None]  # signature, version, label
_LARGEST_PORT = 65_535
# What gRPC and the preview server say of a request that will never fit, however quiet the server.
_TOO_LARGE = ("larger than max", "--max_request_bytes")
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_ERRORS: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": RequestRefusedError,
    "FAILED_PRECONDITION": RequestRefusedError,
    "OUT_OF_RANGE": RequestRefusedError,
    "UNIMPLEMENTED": RequestRefusedError,
    "NOT_FOUND": NotServedError,
    "RESOURCE_EXHAUSTED": ServerBusyError,
    "DEADLINE_EXCEEDED": ServerTimeoutError,
}


class GrpcClient(BlockingClient):
    """One model of one server, over gRPC: arrays in, arrays out, of any size.

    It may be used by several threads.

    Example:
        >>> with GrpcClient("127.0.0.1:8500", "sst2") as client:
        ...     client.predict({"text": ["a fine day"]}, outputs=["scores"])
        {'scores': array([[0.02, 0.98]], dtype=float32)}
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        max_batch_size: int | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            address: `HOST:PORT` of the server's gRPC interface.
            model: the model's name.
            timeout: seconds that one try of a request may take.
            retries: further tries, where the server is too busy or nobody listens.
            max_batch_size: rows of one request; more are sent in several, one after another.

        Raises:
            InputError: the address is none, or a number can't be used.
        """
        if not _is_address(address):
            raise InputError(f"a server's gRPC address is HOST:PORT. Received: {address!r}")
        super().__init__(_arguments.retry_count(retries))
        self._model = _arguments.text_name("a model's name", model)
        self._timeout = _arguments.seconds(timeout)
        self._max_batch_size = _batches.batch_size(max_batch_size)
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._dtypes: dict[_Chosen, dict[str, str]] = {}

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        signature: str | None = None,
        outputs: Sequence[str] = (),
        version: int | None = None,
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Ask the model.

        Args:
            inputs: input → its rows: an array of the input's dtype, or (nested) lists. Strings may
                be `str` or `bytes`. A signature's first lists cost one question for its dtypes.
            signature: its name; None: `serving_default`.
            outputs: which outputs to compute; none named: all.
            version: which one; None: the newest.
            label: a version's label in place of its number.

        Returns:
            output → its array; strings are object arrays of `bytes`.

        Raises:
            ServingError: there was no answer; its kinds say why.
            InputError: the inputs have no names, or another argument can't be used.
        """
        _check_asked(inputs, signature, outputs)
        chosen = (signature or _DEFAULT_SIGNATURE, version, label)
        remembered = self._dtypes.get(chosen)
        try:
            return self._ask(inputs, chosen, outputs)
        except NotServedError:
            raise
        except RequestRefusedError:
            # Another version may answer now than the one whose dtypes are remembered.
            if remembered is None or self._asked_dtypes(chosen) == remembered:
                raise
        return self._ask(inputs, chosen, outputs)

    def _ask(
        self, inputs: Mapping[str, Any], chosen: _Chosen, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        signature, version, label = chosen
        replies = []
        for batch in _batches.column_batches(self._arrays(inputs, chosen), self._max_batch_size):
            request = predict_pb2.PredictRequest(output_filter=outputs)
            self._fill(request.model_spec, version, label)
            request.model_spec.signature_name = signature
            for name, array in batch.items():
                request.inputs[name].CopyFrom(_proto(name, array))
            reply = self._send(self._prediction.Predict, request)
            replies.append({name: array_of(proto) for name, proto in reply.outputs.items()})
        return {
            name: _batches.join_arrays(name, [reply[name] for reply in replies])
            for name in sorted(replies[0])
        }

    def _arrays(self, inputs: Mapping[str, Any], chosen: _Chosen) -> dict[str, np.ndarray]:
        """Make arrays of lists, which don't say their dtype: the server does."""
        if all(isinstance(value, np.ndarray) for value in inputs.values()):
            return {name: _sendable(name, value) for name, value in inputs.items()}
        dtypes = self._dtypes.get(chosen) or self._asked_dtypes(chosen)
        return {
            name: _array(name, value, dtypes.get(name, "string")) for name, value in inputs.items()
        }

    def _asked_dtypes(self, chosen: _Chosen) -> dict[str, str]:
        """Ask for the dtypes of a signature's inputs, and remember them; {}: there is no such."""
        signature, version, label = chosen
        declared = self.metadata(version=version, label=label).get(signature)
        inputs = declared.inputs.items() if declared else ()
        dtypes = {name: DTYPES.get(info.dtype, "string") for name, info in inputs}
        if len(self._dtypes) >= _MOST_KEPT:
            self._dtypes.clear()
        self._dtypes[chosen] = dtypes
        return dtypes

    def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Give signature → its `SignatureDef`.

        Raises:
            ServingError: there was no answer.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec, version, label)
        reply = self._send(self._prediction.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def status(self, *, version: int | None = None) -> list[VersionStatus]:
        """List the versions that the server knows of, newest first, those that ended too.

        Raises:
            ServingError: there was no answer.
        """
        return self._status(self._send, version)

    def _status_once(self, version: int | None) -> list[VersionStatus]:
        return self._status(self._send_once, version)

    def _status(self, send: Callable[..., Any], version: int | None) -> list[VersionStatus]:
        request = get_model_status_pb2.GetModelStatusRequest()
        self._fill(request.model_spec, version, None)
        reply = send(self._models.GetModelStatus, request)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            VersionStatus(
                entry.version,
                states.Name(entry.state),
                _code_name(entry.status),
                entry.status.error_message,
            )
            for entry in reply.model_version_status
        ]

    def _fill(self, spec: Any, version: int | None, label: str | None) -> None:
        _arguments.check_chosen(version, label)
        spec.name = self._model
        if version is not None:
            spec.version.value = version
        if label is not None:
            spec.version_label = label

    def _send(self, call: Callable[..., Any], request: Any) -> Any:
        return self._retried(lambda: self._send_once(call, request))

    def _send_once(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise _serving_error(error) from error

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _is_address(address: Any) -> bool:
    if not isinstance(address, str) or not address.isprintable() or " " in address:
        return False
    if address.startswith("unix:"):
        return True
    host, _, port = address.rpartition(":")
    is_number = port.isascii() and port.isdecimal() and len(port) <= len(str(_LARGEST_PORT))
    return bool(host) and "/" not in host and is_number and 0 < int(port) <= _LARGEST_PORT


def _check_asked(inputs: Any, signature: Any, outputs: Any) -> None:
    if not isinstance(inputs, Mapping):
        raise InputError(f"inputs must be {{input: rows}}. Received: {type(inputs).__name__}")
    for name in inputs:
        _arguments.text_name("an input's name", name)
    if isinstance(outputs, str | bytes) or not isinstance(outputs, Sequence):
        raise InputError(f"outputs must be a list of names. Received: {outputs!r}")
    for name in outputs:
        _arguments.text_name("an output's name", name)
    if signature is not None:
        _arguments.text_name("signature", signature)


def _sendable(name: str, array: np.ndarray) -> np.ndarray:
    """NumPy's own strings become bytes, text as UTF-8."""
    return _array(name, array, "string") if array.dtype.kind in "OUS" else array


def _array(name: str, value: Any, dtype: str) -> np.ndarray:
    try:
        return as_array(value, dtype)
    except SessionError as error:
        raise RequestRefusedError(error.code, f'input "{name}" {error.message}') from error


def _proto(name: str, array: np.ndarray) -> Any:
    try:
        return proto_of(array)
    except ValueError as error:
        raise RequestRefusedError("INVALID_ARGUMENT", f'input "{name}": {error}') from error


def _code_name(status: Any) -> str:
    field = status.DESCRIPTOR.fields_by_name["error_code"]
    return field.enum_type.values_by_number[status.error_code].name


def _serving_error(error: Any) -> ServingError:
    code, message = error.code().name, error.details() or ""
    if code == "UNAVAILABLE":
        # The server's own word is about its queue; gRPC's is about the connection.
        kind = ServerBusyError if "queue" in message else ServerUnreachableError
        return kind(code, message)
    if code == "RESOURCE_EXHAUSTED" and any(words in message for words in _TOO_LARGE):
        return RequestRefusedError(code, message)
    return _ERRORS.get(code, ServerFailedError)(code, message)
