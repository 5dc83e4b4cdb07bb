"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field, Fields, as_fields, take_fields
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Example, Paths, Reader

__all__ = ["JsonLines", "parse_json"]


@dataclass(frozen=True)
class JsonLines(Reader):
    """Examples from files with one JSON object a line; blank lines are passed over.

    Attributes:
        paths: paths and globs, packed with gzip or not.
        fields: name in the example → key of the object, or a `Field` where it is no text.

    Example:
        `JsonLines("train.jsonl", {"text": "dialogue", "label": Field("class", "label")})` makes
        of `{"dialogue": "Hi", "class": 3, "id": 7}` the example `{"text": "Hi", "label": 3}`.
    """

    paths: Paths
    fields: Fields

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        fields = as_fields(self.fields)
        for number, (line, fault) in enumerate(read_lines(path), 1):
            if fault:
                yield number, fault
            elif line and not line.isspace():
                yield number, _example(path, number, line, fields)


def _example(path: Path, number: int, line: str, fields: dict[str, Field]) -> Example | BadRow:
    try:
        row = parse_json(line)
        if not isinstance(row, dict):
            raise ValueError(f"is no JSON object but of type {type(row).__name__}")
        return take_fields(row, fields)
    except ValueError as error:
        return BadRow(path, number, str(error))


def parse_json(text: str) -> object:
    """Parse JSON, without the NaN and Infinity that Python would let pass.

    Raises:
        ValueError: with the reason.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("is no JSON that can be read: it is nested too deep") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"is no JSON: {name} is no number")
