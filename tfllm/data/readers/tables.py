"""Rows of cells under named columns, to examples."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field, named_by, shorten, take_fields
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Example
from tfllm.errors import InputError

__all__ = ["Cells", "quoted_cells", "split_cells", "table_examples"]

# Line of the file where the row begins, and its cells or what is wrong with it.
Cells = tuple[int, list[str] | BadRow]

# An open quote takes in all lines up to the next one: somewhere that must end.
_LONGEST_CELL = 1 << 24


def quoted_cells(path: Path, delimiter: str) -> Iterator[Cells]:
    """Cut a file into cells that may be quoted, and may then hold delimiters and line ends.

    Where quotes don't close as they should, the row's first line is bad, and its other lines are
    read as rows of their own: an open quote has taken them in.
    """
    lines = _Lines(path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    suspect = 0  # up to this line, what is read may be a part of a badly quoted row
    while True:
        lines.taken.clear()
        try:
            cells = _next_row(reader)
        except csv.Error as error:
            suspect = max(suspect, lines.taken[-1].number + 1)
            line = lines.retry()
            yield line, BadRow(path, line, f"is badly quoted: {error}")
            continue
        if cells is None:
            return
        line, last = lines.taken[0].number, lines.taken[-1].number
        faults = [taken.fault for taken in lines.taken if taken.fault]
        if faults:
            yield line, faults[0]
        elif line <= suspect and _has_lone_quote(cells, lines.taken):
            suspect = max(suspect, last + 1)
            yield line, BadRow(path, line, "is badly quoted, or a part of a row that is")
        elif cells:
            yield line, cells


class _Line(NamedTuple):
    number: int
    text: str
    fault: BadRow | None


class _Lines:
    """The lines of a file for the csv module, which may be asked to read some once more."""

    def __init__(self, path: Path) -> None:
        lines = enumerate(read_lines(path), 1)
        self._fresh = (_Line(number, text, fault) for number, (text, fault) in lines)
        self._again: deque[_Line] = deque()
        self.taken: list[_Line] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._fresh)
        self.taken.append(line)
        return line.text + "\n"

    def retry(self) -> int:
        """Give the number of the row's first line, and read those after it once more."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        return first.number


def _has_lone_quote(cells: list[str], lines: list[_Line]) -> bool:
    """Whether a cell without quotes around it holds one; quotes in a quoted one are doubled."""
    quotes = sum(line.text.count('"') for line in lines)
    doubled = sum(line.text.count('""') for line in lines)
    return any('"' in cell for cell in cells) and not doubled or quotes % 2 == 1


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    # The csv module keeps one limit for the whole process: put it back.
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def split_cells(path: Path, delimiter: str) -> Iterator[Cells]:
    """Cut each line at the delimiters; quotes are characters like others."""
    for number, (line, fault) in enumerate(read_lines(path), 1):
        if fault:
            yield number, fault
        elif line:
            yield number, line.split(delimiter)


def table_examples(
    path: Path,
    rows: Iterable[Cells],
    fields: Mapping[str, Field],
    columns: Sequence[str] | None,
) -> Iterator[tuple[int, Example | BadRow]]:
    """Take examples out of rows.

    Args:
        path: the file, for messages.
        rows: its rows.
        fields: name in the example → column.
        columns: the columns' names; None if the first row holds them.

    Yields:
        the line where the row begins, and the example.

    Raises:
        InputError: if a column is missing or its name stands twice.
    """
    rows = iter(rows)
    names = list(columns) if columns is not None else _header(path, rows)
    _check_columns(path, names, fields)
    keys = {field.key for field in fields.values()}
    places = {key: names.index(key) for key in keys if key in names}
    for line, cells in rows:
        if isinstance(cells, BadRow):
            yield line, cells
        elif len(cells) != len(names):
            reason = f"has {len(cells)} columns, not {len(names)}"
            yield line, BadRow(path, line, reason)
        else:
            row = {key: cells[place] for key, place in places.items()}
            yield line, _example(path, line, row, fields)


def _header(path: Path, rows: Iterator[Cells]) -> list[str]:
    _, names = next(rows, (0, BadRow(path, 1, "has no row with the columns' names")))
    if isinstance(names, BadRow):
        raise InputError(f"{names}. Give a file whose first row names the columns")
    return names


def _check_columns(path: Path, names: Sequence[str], fields: Mapping[str, Field]) -> None:
    listed = shorten(", ".join(repr(name) for name in names), 200)
    for field in fields.values():
        if field.default is None and field.key not in names:
            raise InputError(
                f"{path} has no column {field.key!r}{named_by(field)}; its columns: {listed}. Name "
                "one of these, or all columns if the first row names none"
            )
    for key in {field.key: None for field in fields.values()}:
        if names.count(key) > 1:
            raise InputError(f"{path} has two columns {key!r}: {listed}. Rename one")


def _example(
    path: Path, line: int, row: Mapping[str, str], fields: Mapping[str, Field]
) -> Example | BadRow:
    try:
        return take_fields(row, fields)
    except ValueError as error:
        return BadRow(path, line, str(error))
