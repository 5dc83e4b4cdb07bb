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
    "connection_error",
    "delays",
    "model_url",
    "predict_body",
    "read_reply",
    "read_statuses",
    "server_url",
    "want_one",
]

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
    url = address if "://" in address else f"http://{address}"
    parts = urllib.parse.urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"a server's address is HOST:PORT or a URL. Received: {address!r}")
    return url.rstrip("/")


def model_url(server: str, model: str, version: int | None, label: str | None) -> str:
    """Write the URL of a model, or of one of its versions.

    Raises:
        InputError: both a version and a label are given.
    """
    if version is not None and label is not None:
        raise InputError(f"give a version or a label, not both. Received: {version} and {label!r}")
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
    """Write a request; `bytes` become `{"b64": …}`, arrays lists."""
    request = {} if signature is None else {"signature_name": signature}
    return json.dumps(request | {key: _plain(value)}).encode()


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
    except json.JSONDecodeError as error:
        if reply.status_code == 200:
            shown = f"the reply is no JSON: {text[:80]!r}"
            raise ServerFailedError("INTERNAL", shown) from error
        content = None
    if reply.status_code == 200:
        return content
    message = content.get("error") if isinstance(content, dict) else None
    raise _error(reply.status_code, str(message or f"HTTP status {reply.status_code}"))


def _object(members: dict[str, Any]) -> Any:
    if members.keys() == {"b64"} and isinstance(members["b64"], str):
        return base64.b64decode(members["b64"])
    return members


def _error(status: int, message: str) -> ServingError:
    default = RequestRefusedError if 400 <= status < 500 else ServerFailedError
    return _ERRORS.get(status, default)(_CODES.get(status, "INTERNAL"), message)


def connection_error(error: httpx.TransportError, url: str) -> ServingError:
    """Say what became of a request that got no reply."""
    text = f"{url}: {str(error) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return ServerTimeoutError("DEADLINE_EXCEEDED", text)
    return ServerUnreachableError("UNAVAILABLE", text)


def read_statuses(reply: Mapping[str, Any]) -> list[VersionStatus]:
    """Read a model's status, in the server's order: newest first."""
    return [
        VersionStatus(
            int(entry["version"]),
            entry["state"],
            entry.get("status", {}).get("error_code", "OK"),
            entry.get("status", {}).get("error_message", ""),
        )
        for entry in reply.get("model_version_status", [])
    ]


def delays(retries: int) -> Iterator[float]:
    """Give the seconds to wait before each retry: doubling, and never in step with others."""
    delay = _FIRST_DELAY
    for _ in range(retries):
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, _LONGEST_DELAY)
