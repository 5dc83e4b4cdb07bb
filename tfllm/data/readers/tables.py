"""Rows of cells under named columns, to examples."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field, shorten, take_fields
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Example
from tfllm.errors import InputError

__all__ = ["Cells", "quoted_cells", "split_cells", "table_examples"]

# Line of the file where the row begins, and its cells or what is wrong with it.
Cells = tuple[int, list[str] | BadRow]

# An open quote takes in all lines up to the next one: somewhere that must end.
_LONGEST_CELL = 1 << 24


def quoted_cells(path: Path, delimiter: str) -> Iterator[Cells]:
    """Cut a file into cells that may be quoted, and may then hold delimiters and line ends."""
    faults: list[BadRow] = []
    reader = csv.reader(_feed(path, faults.append), delimiter=delimiter, strict=True)
    while True:
        faults.clear()
        line = reader.line_num + 1
        try:
            cells = _next_row(reader)
        except csv.Error as error:
            yield line, BadRow(path, line, f"is badly quoted: {error}")
            continue
        if cells is None:
            return
        if faults:
            yield line, faults[0]
        elif cells:
            yield line, cells


def _feed(path: Path, report: Callable[[BadRow], None]) -> Iterator[str]:
    for line, fault in read_lines(path):
        if fault:
            report(fault)
        yield line + "\n"


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
    for key in {field.key: None for field in fields.values() if field.default is None}:
        if key not in names:
            raise InputError(
                f"{path} has no column {key!r}; its columns: {listed}. Name one of these, or all "
                "columns if the first row names none"
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
