"""What a prompt consists of, taken from a line of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfllm.errors import InputError

__all__ = ["prompt_fields"]


def prompt_fields(given: str | Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Take a text for the only field, or an object for several.

    Args:
        given: a text, or an object that has the fields and maybe others.
        names: of the fields.

    Raises:
        InputError: if a field is missing, or no text.
    """
    if isinstance(given, str):
        fields = {names[0]: given} if len(names) == 1 else {}
    else:
        fields = {name: given[name] for name in names if name in given}
    missing = [name for name in names if name not in fields]
    if missing:
        raise InputError(
            f"a prompt has {', '.join(names)} here, and this has no {missing[0]!r}. Give a JSON "
            f"object in one line. Received: {json.dumps(given, ensure_ascii=False)[:80]}"
        )
    for name, value in fields.items():
        if not isinstance(value, str):
            raise InputError(f"{name!r} must be a text. Received: {json.dumps(value)[:80]}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{name!r} must be Unicode text, in UTF-8. Received: {value!a:.80}"
            ) from None
    return fields
