"""TF Serving's REST request → a session's inputs → TF Serving's REST reply.

The rules are TensorFlow Serving 2.20's: `instances` (rows) are answered by `predictions`, `inputs`
(columns) by `outputs`; numbers must have the input's type; `{"b64": …}` is a binary string; an
output whose name ends in `_bytes` comes back as `{"b64": …}`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfllm.serving.errors import SessionError
from tfllm.serving.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from tfllm.serving.session import Session

__all__ = ["answer", "read_json"]


def read_json(body: bytes) -> dict[str, Any]:
    """Parse a request's body as the server does.

    A byte-order mark, bytes after the object, `NaN` and invalid UTF-8 in strings pass; of a
    doubled key the first counts.

    Raises:
        SessionError: INVALID_ARGUMENT, it isn't a JSON object.
    """
    text = body.decode("utf-8-sig", errors="surrogateescape").lstrip()
    if not text:
        raise _refusal("JSON Parse error: The document is empty")
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    try:
        request, _ = decoder.raw_decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _refusal(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise _refusal(f"JSON Value: {_shown(request)} Is not object")
    return request


def answer(session: Session, request: Mapping[str, Any]) -> bytes:
    """Answer one parsed request with the reply's JSON, in UTF-8 on one line.

    Raises:
        SessionError: the request doesn't fit the signature, or the model failed.
    """
    name = _signature_name(request)
    if name not in session.signatures:
        raise _refusal(f'Serving signature name: "{name}" not found in signature def')
    signature = session.signatures[name]
    if "instances" in request and "inputs" in request:
        raise _refusal("Not formatted correctly: expecting either 'instances' or 'inputs'")
    if "instances" in request:
        outputs = session.run(name, _from_rows(request["instances"], signature))
        reply = {"predictions": _as_rows(outputs)}
    elif "inputs" in request:
        outputs = session.run(name, _from_columns(request["inputs"], signature))
        reply = {"outputs": _as_columns(outputs)}
    else:
        raise _refusal("Missing 'inputs' or 'instances' key")
    return json.dumps(reply, ensure_ascii=False).encode(errors="surrogateescape")


def _refusal(message: str) -> SessionError:
    return SessionError("INVALID_ARGUMENT", message)


def _shown(value: Any) -> str:
    """Echo what was received, cut as the server cuts it."""
    return json.dumps(value)[:256]


def _signature_name(request: Mapping[str, Any]) -> str:
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise _refusal("'signature_name' key must be a string value")
    return name or "serving_default"


def _from_rows(rows: Any, signature: Signature) -> dict[str, list[Any]]:
    if not isinstance(rows, list):
        raise _refusal("Expecting 'instances' value to be an list/array")
    if not rows:
        raise _refusal("No values in 'instances' array")
    columns: dict[str, list[Any]] = {name: [] for name in signature.inputs}
    for i, row in enumerate(rows):
        try:
            for name, value in _named(row, signature).items():
                columns[name].append(_converted(value, signature.inputs[name]))
        except SessionError as error:
            message = f"Failed to process element: {i} of 'instances' list. Error: {error}"
            raise _refusal(message) from error
    return columns


def _from_columns(columns: Any, signature: Signature) -> dict[str, Any]:
    if len(signature.inputs) == 1 and not _is_object(columns):
        columns = {next(iter(signature.inputs)): columns}
    if not isinstance(columns, dict):
        raise _refusal("'inputs' is a plain value/list, but expecting an object")
    for name in signature.inputs:
        if name not in columns:
            raise _refusal(f"Missing named input: {name} in 'inputs' object.")
    return {name: _converted(columns[name], spec) for name, spec in signature.inputs.items()}


def _named(row: Any, signature: Signature) -> dict[str, Any]:
    """Give a row's values their inputs' names: a signature of one input takes bare values."""
    if not _is_object(row):
        if len(signature.inputs) != 1:
            raise _refusal("expecting list of objects as multiple input tensors required")
        return {next(iter(signature.inputs)): row}
    for name in row:
        if name not in signature.inputs:
            raise _refusal(f"JSON object: does not have named input: {name}")
    for name in signature.inputs:
        if name not in row:
            raise _refusal(f"Missing named input: {name}")
    return row


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_binary(value)


def _is_binary(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _converted(value: Any, spec: TensorSpec) -> Any:
    """Check every scalar of a nested list against the input's type; strings become bytes."""
    if isinstance(value, list):
        return [_converted(item, spec) for item in value]
    kind = spec.dtype.rstrip("0123456789")
    if kind == "string" and _is_binary(value):
        return _decoded(value["b64"])
    if kind == "string" and isinstance(value, str):
        return _encoded(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in ("int", "uint", "float") and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "float" and isinstance(value, float):
        return value
    raise _refusal(f"JSON Value: {_shown(value)} is not of expected type: {spec.dtype}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise _refusal(f"JSON Value: {_shown(text)} holds half a surrogate pair") from error


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _refusal("Unable to base64 decode") from error


def _as_rows(outputs: Mapping[str, np.ndarray]) -> list[Any]:
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(sizes) != 1 or None in sizes:
        raise _refusal("Tensors must have the same first dimension to be written as rows")
    columns = {name: _json_value(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _as_columns(outputs: Mapping[str, np.ndarray]) -> Any:
    columns = {name: _json_value(name, array) for name, array in outputs.items()}
    return next(iter(columns.values())) if len(columns) == 1 else columns


def _json_value(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        write = _binary if name.endswith("_bytes") else _text
        values = np.empty(array.shape, dtype=object)
        values.ravel()[:] = [write(item) for item in array.ravel()]
        return values.tolist()
    if array.dtype == np.float32:
        # The fewest digits that read back as the same float32.
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _binary(item: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(item).decode()}


def _text(item: bytes) -> str:
    return item.decode(errors="surrogateescape")
