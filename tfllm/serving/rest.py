"""TF Serving's REST request → a session's inputs → TF Serving's REST reply.

The rules, the texts of errors and the bytes of replies are TensorFlow Serving 2.20's: `instances`
(rows) are answered by `predictions`, `inputs` (columns) by `outputs`; numbers must have the input's
type; `{"b64": …}` is a binary string; an output whose name ends in `_bytes` comes back as
`{"b64": …}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfllm.serving._json_reader import JsonObject, parse_json
from tfllm.serving._json_writer import debug_text, error_json
from tfllm.serving._rest_inputs import inputs_of, refusal
from tfllm.serving._rest_outputs import columns_json, rows_json
from tfllm.serving.errors import SessionError
from tfllm.serving.signature import Signature

if TYPE_CHECKING:
    from tfllm.serving.session import Session

__all__ = [
    "answer",
    "error_body",
    "read_inputs",
    "read_json",
    "reply_body",
    "signature_name",
]

_DEFAULT_SIGNATURE = "serving_default"


def read_json(body: bytes) -> JsonObject:
    """Parse a request's body as the server does.

    A byte-order mark, bytes after the object, `NaN` and invalid UTF-8 in strings pass; of a
    doubled key the first counts.

    Raises:
        SessionError: INVALID_ARGUMENT, it isn't a JSON object.
    """
    request = parse_json(body)
    if not isinstance(request, JsonObject):
        raise refusal(f"JSON Value: {debug_text(request)} Is not object")
    return request


def _parsed(request: Mapping[str, Any]) -> JsonObject:
    try:
        # Bytes of a text file that weren't UTF-8 are sent as they were.
        body = json.dumps(request, ensure_ascii=False).encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise refusal(f"a text holds half a surrogate pair: {error}") from error
    return read_json(body)


def signature_name(request: JsonObject) -> str:
    """Say which signature a request asks for.

    Raises:
        SessionError: INVALID_ARGUMENT, `signature_name` is there and no string.
    """
    name = request.get(b"signature_name") if b"signature_name" in request else b""
    if not isinstance(name, bytes):
        message = "not formatted correctly. 'signature_name' key must be a string value."
        raise refusal(f"JSON Value: {debug_text(request)} {message}")
    return name.decode(errors="surrogateescape") or _DEFAULT_SIGNATURE


def read_inputs(
    request: JsonObject, signatures: Mapping[str, Signature]
) -> tuple[dict[str, np.ndarray], bool]:
    """Turn a request into the arrays that its signature takes.

    Returns:
        every input → its array; and whether the reply is to be in rows.

    Raises:
        SessionError: the request doesn't fit the signature, or there is none of that name.
    """
    name = signature_name(request)
    if name not in signatures:
        raise refusal(f'Serving signature name: "{name}" not found in signature def')
    if not signatures[name].inputs:
        raise refusal(f"Failed to get input map for signature: {name}")
    return inputs_of(request, signatures[name])


def reply_body(outputs: Mapping[str, np.ndarray], in_rows: bool) -> bytes:
    """Write outputs as the server does, white space included.

    Raises:
        SessionError: they can't be written in rows, or in JSON.
    """
    text = rows_json(outputs) if in_rows else columns_json(outputs)
    return text.encode(errors="surrogateescape")


def error_body(error: SessionError) -> bytes:
    """Write what the server sends in place of a reply."""
    return error_json(error.message).encode(errors="surrogateescape")


def answer(session: Session, request: JsonObject | Mapping[str, Any]) -> bytes:
    """Answer one request with the reply's JSON, in UTF-8.

    Args:
        session: the model.
        request: what `read_json` gave, or the same as a plain dictionary.

    Raises:
        SessionError: the request doesn't fit the signature, or the model failed.
    """
    if isinstance(request, Mapping):
        request = _parsed(request)
    inputs, in_rows = read_inputs(request, session.signatures)
    return reply_body(session.run(signature_name(request), inputs), in_rows)
