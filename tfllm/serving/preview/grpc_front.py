"""TensorFlow Serving's gRPC services, on its official servicers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import grpc

from tfllm.serving._protos import (
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tfllm.serving._rest_inputs import dtype_text
from tfllm.serving._tensor_protos import array_of, filled_bytes, proto_of
from tfllm.serving._tensors import DTYPES
from tfllm.serving.errors import SessionError
from tfllm.serving.preview._aside import BYTES_PER_VALUE, aside
from tfllm.serving.preview.predictor import Predictor
from tfllm.serving.preview.settings import PreviewSettings
from tfllm.serving.signature import Signature

__all__ = ["grpc_server"]

_DEFAULT_SIGNATURE = "serving_default"
_SIGNATURES = "signature_def"  # the one metadata field there is
_LONGEST_MESSAGE = 1024


def grpc_server(predictor: Predictor, settings: PreviewSettings) -> Any:
    """Make a `grpc.aio` server of both services; it has no port yet."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(predictor, settings.max_request_bytes), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(predictor), server)
    return server


async def _abort(context: Any, error: SessionError) -> NoReturn:
    text = error.message
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]}...TRUNCATED"
    await context.abort(getattr(grpc.StatusCode, error.code), text)
    raise AssertionError("abort does not return")


def _refusal(message: str) -> SessionError:
    return SessionError("INVALID_ARGUMENT", message)


def _asked(request: Any) -> tuple[str, int | None, str | None]:
    """Read a request's model, version and label."""
    if not request.HasField("model_spec"):
        raise _refusal("Missing ModelSpec")
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    number = spec.version.value if choice == "version" else None
    return spec.name, number, spec.version_label if choice == "version_label" else None


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the others answer UNIMPLEMENTED."""

    def __init__(self, predictor: Predictor, max_request_bytes: int) -> None:
        self._predictor = predictor
        self._max_request_bytes = max_request_bytes

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            return await self._predict(request, context.time_remaining())
        except SessionError as error:
            await _abort(context, error)

    async def _predict(self, request: Any, timeout: float | None) -> Any:
        version = self._predictor.catalog.find(*_asked(request))
        name = request.model_spec.signature_name or _DEFAULT_SIGNATURE
        if name not in version.signatures:
            message = f'Serving signature key "{name}" not found.'
            raise SessionError("FAILED_PRECONDITION", message)
        signature = version.signatures[name]
        _check_names(request, signature)
        filled = self._filled_bytes(request)
        wanted = _wanted(request, signature)
        _check_dtypes(request, signature)
        with version.lease():
            inputs = await aside(request.ByteSize() + filled, _inputs, request, signature)
            outputs = await self._predictor.predict(version, name, inputs, wanted, timeout)
        size = sum(array.size for array in outputs.values()) * BYTES_PER_VALUE
        reply = predict_pb2.PredictResponse()
        reply.model_spec.name = request.model_spec.name
        reply.model_spec.version.value = version.number
        reply.model_spec.signature_name = name
        await aside(size, _add_outputs, reply, outputs)
        return reply

    def _filled_bytes(self, request: Any) -> int:
        """Count what the shapes ask for beyond the values that were sent.

        Raises:
            SessionError: too much, or shapes and values don't fit.
        """
        limit = self._max_request_bytes
        filled = 0
        for name, proto in request.inputs.items():
            try:
                filled += filled_bytes(proto)
            except ValueError as error:
                raise _unreadable(name) from error
            if filled > limit:
                message = (
                    f'the shape of input "{name}" asks for more than the values that were sent, '
                    f"and for more than --max_request_bytes, which is {limit}"
                )
                raise SessionError("RESOURCE_EXHAUSTED", message)
        return filled

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            return self._metadata(request)
        except SessionError as error:
            await _abort(context, error)

    def _metadata(self, request: Any) -> Any:
        name, number, label = _asked(request)
        if not request.metadata_field:
            message = "GetModelMetadataRequest must specify at least one metadata_field"
            raise _refusal(message)
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise _refusal(f"Metadata field {field} is not supported")
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        spec, signatures = self._predictor.metadata(name, number, label)
        reply.model_spec.CopyFrom(spec)
        reply.metadata[_SIGNATURES].Pack(signatures)
        return reply

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _abort(context, _predict_only("Classify"))

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _abort(context, _predict_only("Regress"))

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _abort(context, _predict_only("MultiInference"))


def _predict_only(name: str) -> SessionError:
    message = f"the preview server answers Predict only, not {name}: TensorFlow Serving has both"
    return SessionError("UNIMPLEMENTED", message)


def _check_names(request: Any, signature: Signature) -> None:
    sent, known = set(request.inputs), set(signature.inputs)
    if len(sent) != len(known):
        raise _refusal(
            f"input size does not match signature: {len(sent)}!={len(known)} "
            f"len({_names(sent)}) != len({_names(known)}). Sent extra: {_names(sent - known)}. "
            f"Missing but required: {_names(known - sent)}."
        )
    for name, spec in signature.inputs.items():
        if name not in sent:
            raise _refusal(
                f"Signature input alias: {name}(feed name: {spec.tensor}) not found in request and "
                "no default value provided. Inputs expected to be in the request "
                f"{_names(sent)}, or default input alias set: "
            )


def _check_dtypes(request: Any, signature: Signature) -> None:
    for place, (name, spec) in enumerate(signature.inputs.items()):
        sent_dtype = DTYPES[request.inputs[name].dtype]
        if sent_dtype != spec.dtype:
            wanted, got = dtype_text(spec.dtype), dtype_text(sent_dtype)
            raise _refusal(f"Expects arg[{place}] to be {wanted} but {got} is provided")


def _inputs(request: Any, signature: Signature) -> dict[str, Any]:
    return {name: _array(name, request.inputs[name]) for name in signature.inputs}


def _array(name: str, proto: Any) -> Any:
    try:
        return array_of(proto)
    except ValueError as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> SessionError:
    return _refusal(f"tensor parsing error: {name}")


def _add_outputs(reply: Any, outputs: Mapping[str, Any]) -> None:
    for name, array in outputs.items():
        try:
            reply.outputs[name].CopyFrom(proto_of(array))
        except ValueError as error:
            raise SessionError("UNIMPLEMENTED", str(error)) from error


def _wanted(request: Any, signature: Signature) -> tuple[str, ...]:
    seen: list[str] = []
    for name in request.output_filter:
        if name not in signature.outputs:
            raise _refusal(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_names(signature.outputs)}."
            )
        if name in seen:
            raise _refusal(f"duplicate output tensor alias: {name}")
        seen.append(name)
    return tuple(seen)


def _names(names: Any) -> str:
    return f"{{{','.join(sorted(names))}}}"


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; the configuration is the file's or the folder's."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            name, number, _ = _asked(request)
            return self._predictor.status(name, number)
        except SessionError as error:
            await _abort(context, error)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        message = (
            "the preview server takes its models from the folder or --model_config_file it was "
            "started with, which it looks at again and again: change that instead"
        )
        await _abort(context, SessionError("UNIMPLEMENTED", message))
