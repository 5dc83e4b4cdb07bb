"""What a REST request's path asks for, as TensorFlow Serving reads it."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

from tfllm.serving.errors import SessionError

__all__ = ["RestPath"]

_MODEL = r"/v1/models{0}(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_POST = re.compile(_MODEL.format("/([^/:]+)") + r":(classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL.format("(?:/([^/:]+))?") + r"(?:/(metadata))?", re.IGNORECASE)
_LARGEST_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class RestPath:
    """The parts of a path.

    Attributes:
        model: its name; may be empty.
        number: the version asked for.
        label: the version's label asked for.
        verb: `"predict"`, `"classify"`, `"regress"`, `"metadata"`, or empty: the status.
    """

    model: str
    number: int | None
    label: str | None
    verb: str

    @classmethod
    def parse(cls, method: str, path: str) -> RestPath:
        """Read a path with its query, still percent-encoded.

        Raises:
            SessionError: INVALID_ARGUMENT, no such request; its message is empty where the
                version is no 64-bit integer, and so is then the server's reply.
        """
        pattern = {"POST": _POST, "GET": _GET}.get(method)
        match = pattern.fullmatch(path) if pattern else None
        if match is None:
            raise _malformed(method, path)
        model, number, label, verb = match.groups()
        digits = (number or "").lstrip("0")
        # Python doesn't read thousands of digits.
        if len(digits) > len(str(_LARGEST_VERSION)) or int(digits or "0") > _LARGEST_VERSION:
            raise SessionError("INVALID_ARGUMENT", "")
        if (verb or "") != (verb or "").lower():
            raise _malformed(method, path)
        return cls(
            _decoded(model or ""),
            int(digits or "0") if number else None,
            _decoded(label) if label else None,
            verb or "",
        )


def _malformed(method: str, path: str) -> SessionError:
    return SessionError("INVALID_ARGUMENT", f"Malformed request: {method} {path}")


def _decoded(text: str) -> str:
    return urllib.parse.unquote(text, errors="surrogateescape")
