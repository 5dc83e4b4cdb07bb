"""What a REST client sends and how it reads the reply, without sending anything."""

from __future__ import annotations

import base64
import json
import random
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from tfllm.errors import InputError
from tfllm.serving.client._arguments import check_chosen, text_name
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

__all__ = [
    "REPLY_KEYS",
    "connection_error",
    "delays",
    "model_url",
    "part_of",
    "predict_body",
    "read_metadata",
    "read_reply",
    "read_statuses",
    "server_url",
    "want_one",
]

REPLY_KEYS = {"instances": "predictions", "inputs": "outputs"}

_FIRST_DELAY = 0.1  # seconds
_LONGEST_DELAY = 2.0
_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ERRORS: dict[int, type[ServingError]] = {
    404: NotServedError,
    429: ServerBusyError,
    503: ServerBusyError,
    504: ServerTimeoutError,
}


def server_url(address: str) -> str:
    """Read `HOST:PORT` or a whole URL.

    Raises:
        InputError: it is neither.
    """
    refused = f"a server's address is HOST:PORT or a URL. Received: {address!r}"
    # Python would read an address without its line breaks, which isn't what is then asked.
    if not isinstance(address, str) or not address.isprintable() or " " in address:
        raise InputError(refused)
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urllib.parse.urlsplit(url)
        (parts.hostname or "").encode("idna")  # as Python does when it looks the host up
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise InputError(refused) from error
    if not usable or parts.query or parts.fragment:
        raise InputError(refused)
    return url.rstrip("/")


def model_url(server: str, model: str, version: int | None, label: str | None) -> str:
    """Write the URL of a model, or of one of its versions.

    Raises:
        InputError: both a version and a label are given, or a part is none.
    """
    check_chosen(version, label)
    text_name("a model's name", model)
    url = f"{server}/v1/models/{urllib.parse.quote(model, safe='')}"
    if version is not None:
        return f"{url}/versions/{version}"
    return url if label is None else f"{url}/labels/{urllib.parse.quote(label, safe='')}"


def want_one(instances: Any, inputs: Any) -> None:
    """Check that a request is in rows or in columns.

    Raises:
        InputError: it is in neither, or in both.
    """
    if (instances is None) == (inputs is None):
        raise InputError("give predict either instances (rows) or inputs (columns)")


def predict_body(key: str, value: Any, signature: str | None) -> bytes:
    """Write a request; `bytes` become `{"b64": …}`, arrays lists.

    Raises:
        InputError: something in it can't be written as JSON.
    """
    request = {} if signature is None else {"signature_name": text_name("signature", signature)}
    try:
        return json.dumps(request | {key: _plain(value)}).encode()
    except (TypeError, ValueError) as error:
        known = "text, bytes, numbers, booleans, lists, dictionaries and arrays"
        raise InputError(f"{key} may hold {known}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{key} are nested too deeply to be sent") from error


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):  # an array, or one number of it
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def read_reply(reply: httpx.Response) -> Any:
    """Parse a reply; `{"b64": …}` becomes `bytes`.

    Raises:
        ServingError: the server sent an error, or no JSON.
    """
    text = reply.content.decode(errors="surrogateescape")
    try:
        content = json.loads(text, object_hook=_object)
    except (ValueError, RecursionError) as error:
        if reply.status_code == 200:
            shown = f"the reply is no JSON: {text[:80]!r}"
            raise ServerFailedError("INTERNAL", shown) from error
        content = None
    if reply.status_code == 200:
        return content
    message = content.get("error") if isinstance(content, dict) else None
    raise _error(reply.status_code, str(message or f"HTTP status {reply.status_code}"))


def part_of(reply: Any, key: str) -> Any:
    """Take a part of a reply.

    Raises:
        ServerFailedError: it has none of that name: what answers is no TensorFlow Serving.
    """
    if not isinstance(reply, dict) or key not in reply:
        raise ServerFailedError("INTERNAL", f'the reply has no "{key}"')
    return reply[key]


def _object(members: dict[str, Any]) -> Any:
    if members.keys() == {"b64"} and isinstance(members["b64"], str):
        return base64.b64decode(members["b64"])
    return members


def _error(status: int, message: str) -> ServingError:
    default = RequestRefusedError if 400 <= status < 500 else ServerFailedError
    return _ERRORS.get(status, default)(_CODES.get(status, "INTERNAL"), message)


def connection_error(error: httpx.RequestError, url: str) -> ServingError:
    """Say what became of a request that got no reply."""
    text = f"{url}: {str(error) or type(error).__name__}"
    if isinstance(error, httpx.DecodingError):
        return ServerFailedError("INTERNAL", text)
    if isinstance(error, httpx.TimeoutException):
        return ServerTimeoutError("DEADLINE_EXCEEDED", text)
    return ServerUnreachableError("UNAVAILABLE", text)


def read_metadata(reply: Any) -> dict[str, Any]:
    """Read signature → its description.

    Raises:
        ServerFailedError: the reply is no TensorFlow Serving's.
    """
    return part_of(part_of(part_of(reply, "metadata"), "signature_def"), "signature_def")


def read_statuses(reply: Any) -> list[VersionStatus]:
    """Read a model's status, in the server's order: newest first.

    Raises:
        ServerFailedError: the reply is no TensorFlow Serving's.
    """
    return [
        VersionStatus(
            int(entry["version"]),
            entry["state"],
            entry.get("status", {}).get("error_code", "OK"),
            entry.get("status", {}).get("error_message", ""),
        )
        for entry in part_of(reply, "model_version_status")
    ]


def delays(retries: int) -> Iterator[float]:
    """Give the seconds to wait before each retry: doubling, and never in step with others."""
    delay = _FIRST_DELAY
    for _ in range(retries):
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, _LONGEST_DELAY)
