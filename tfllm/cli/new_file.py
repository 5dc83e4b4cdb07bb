"""A file of results: whole or not there, and never in place of another."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tfllm.errors import InputError

__all__ = ["new_file"]


@contextlib.contextmanager
def new_file(path: str, flag: str, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Write to a hidden sibling, which is renamed when the block ends without an error.

    Args:
        path: of the file; `-` for stdout.
        flag: which flag it was given to, for messages.
        binary: whether bytes are written; else text.

    Raises:
        InputError: if it exists already or can't be written.
    """
    if path == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    target = Path(path)
    if target.exists():
        raise InputError(f"--{flag} {path} exists already, and nothing is overwritten")
    hidden = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        file = hidden.open("wb" if binary else "w", encoding=None if binary else "utf-8")
    except OSError as error:
        raise InputError(f"--{flag} {path} can't be written: {error.strerror or error}") from error
    try:
        with file:
            yield file
        hidden.rename(target)
    finally:
        hidden.unlink(missing_ok=True)
