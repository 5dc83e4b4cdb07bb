"""What somebody gives a client, checked before anything is sent."""

from __future__ import annotations

import math
import numbers
from typing import Any

from tfllm.errors import InputError

__all__ = ["check_chosen", "retry_count", "seconds", "text_name"]

_LONGEST = 366 * 24 * 3600  # seconds; what the system waits for has a limit, further on
_LARGEST_VERSION = 2**63 - 1


def seconds(value: Any) -> float:
    """Check a client's `timeout`.

    Raises:
        InputError: it is no time that can be waited for.
    """
    known = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not known or not 0 < value <= _LONGEST or math.isnan(value):
        wanted = f"seconds, above 0 and at most {_LONGEST}"
        raise InputError(f"timeout must be {wanted}. Received: {value!r}")
    return value


def retry_count(value: Any) -> int:
    """Check a client's `retries`.

    Raises:
        InputError: it is no count.
    """
    if not isinstance(value, numbers.Integral) or value < 0:
        raise InputError(f"retries must be a whole number, at least 0. Received: {value!r}")
    return int(value)


def text_name(what: str, value: Any) -> str:
    """Check the name of a model, a signature, a label or an output.

    Raises:
        InputError: it is no text, or empty.
    """
    if not isinstance(value, str) or not value:
        raise InputError(f"{what} must be text, and not empty. Received: {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} must be Unicode text. Received: {value!r}") from error
    return value


def check_chosen(version: Any, label: Any) -> None:
    """Check which version is asked for: by its number, by a label, or neither.

    Raises:
        InputError: both are given, or one is none.
    """
    if version is not None and label is not None:
        given = f"{version!r} and {label!r}"
        raise InputError(f"give a version or a label, not both. Received: {given}")
    if label is not None:
        text_name("a version's label", label)
    if version is None:
        return
    whole = isinstance(version, numbers.Integral) and not isinstance(version, bool)
    if not whole or not 0 <= version <= _LARGEST_VERSION:
        raise InputError(f"a version is a whole number, at least 0. Received: {version!r}")
