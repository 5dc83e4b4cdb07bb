"""On which line of a TOML file each key stands, which `tomllib` does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["KeyPath", "toml_lines"]

KeyPath = tuple[str | int, ...]


def toml_lines(text: str) -> dict[KeyPath, int]:
    """Find the line on which each key, and each table of a list, begins.

    The file is read again and again, each time with one more line. A beginning that ends within a
    value can't be read, and one that ends after it can: so the key whose value is new there began
    after the last beginning that could. Costs the square of the length: for small files.

    Args:
        text: TOML that `tomllib` reads.

    Returns:
        path of names, and numbers from 0 within lists of tables → line, from 1.

    Example:
        `[[task]]`, a blank line, `files = [`, `"a"]` → `("task",)` and `("task", 0)` on line 1,
        `("task", 0, "files")` on line 3.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    found: dict[KeyPath, int] = {}
    begun = 1
    for end in range(1, len(lines) + 1):
        if begun == end and not lines[end - 1].partition("#")[0].strip():
            begun = end + 1  # outside of values, blank lines and comments begin nothing
            continue
        try:
            values = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        for path in _paths(values, ()):
            found.setdefault(path, begun)
        begun = end + 1
    return found


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    inner: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, Mapping):
        inner = iter(value.items())
    elif isinstance(value, list):
        inner = ((i, one) for i, one in enumerate(value) if isinstance(one, Mapping))
    for name, one in inner:
        yield (*path, name)
        yield from _paths(one, (*path, name))
