"""Lines of a file or of what is piped in, each with its place."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from tfllm.errors import InputError

__all__ = ["InputLine", "input_lines"]


class InputLine(NamedTuple):
    """One line.

    Attributes:
        place: `FILE:NUMBER`, counted from 1, for messages.
        given: the line as text, or the JSON object that it is.
    """

    place: str
    given: str | dict[str, Any]


@contextlib.contextmanager
def input_lines(path: str, flag: str) -> Iterator[Iterator[InputLine]]:
    """Read UTF-8 lines one by one, as an object where a line is one in JSON, else as text.

    Below an object, a line that begins with a brace has to be one too.

    Args:
        path: of a file; `-` for stdin.
        flag: which flag it was given to, for messages.

    Raises:
        InputError: if the file can't be read; while reading, if a line is not UTF-8, or no object.
    """
    if path == "-":
        if sys.stdin is None:
            raise InputError(f"there is no stdin to read from. Give --{flag}")
        yield _parsed(sys.stdin.buffer, "stdin")
        return
    if Path(path).is_dir():
        raise InputError(f"--{flag} must be a file. Received: {path}")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"--{flag} {path} can't be read: {error.strerror or error}") from error
    with file:
        yield _parsed(file, path)


def _parsed(file: IO[bytes], path: str) -> Iterator[InputLine]:
    objects = False
    for number, raw in enumerate(file, 1):
        place = f"{path}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{place} is not UTF-8: {error.reason}. Convert it") from error
        given = _object_or_text(line, place, certain=objects)
        objects = objects or isinstance(given, dict)
        yield InputLine(place, given)


def _object_or_text(line: str, place: str, *, certain: bool) -> str | dict[str, Any]:
    if line.startswith("{"):
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            if certain:
                raise InputError(
                    f"{place} begins like the objects above it, and is no JSON: {error}. Mend it"
                ) from error
    return line
