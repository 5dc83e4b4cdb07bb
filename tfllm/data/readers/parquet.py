"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field, Fields, as_fields, shorten, take_fields
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.errors import InputError

__all__ = ["Parquet"]

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Parquet(Reader):
    """Examples from the rows of Parquet files, of which only the columns asked for are read.

    One row group's columns are in memory at a time. Bad rows are named by their number.

    Attributes:
        paths: paths and globs. Parquet packs its columns itself and can't be read out of gzip.
        fields: name in the example → column, or a `Field` where it is no text.
    """

    paths: Paths
    fields: Fields

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        # Slow to import, so only here; and without type information.
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        fields = as_fields(self.fields)
        number = 0
        try:
            with parquet.ParquetFile(path) as file:
                keys = _columns(path, file.schema_arrow.names, fields)
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=keys):
                    for row in _rows(batch):
                        number += 1
                        yield number, _example(path, number, row, fields)
        except (arrow.ArrowException, OSError) as error:
            reason = shorten(" ".join(str(error).split()), 160)
            raise InputError(
                f"{path} can't be read as Parquet: {reason}. Give a whole Parquet file"
            ) from error


def _columns(path: Path, names: list[str], fields: dict[str, Field]) -> list[str]:
    keys = list({field.key: None for field in fields.values()})
    for field in fields.values():
        if field.key not in names and field.default is None:
            listed = shorten(", ".join(repr(name) for name in names), 200)
            raise InputError(f"{path} has no column {field.key!r}. Name one of these: {listed}")
    return [key for key in keys if key in names]


def _rows(batch: Any) -> Iterator[dict[str, Any] | ValueError]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        # Arrow does not check that its strings are UTF-8: find the rows that are not.
        for i in range(batch.num_rows):
            try:
                yield from batch.slice(i, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield ValueError(f"is not UTF-8: byte 0x{error.object[error.start]:02x}")


def _example(
    path: Path, number: int, row: dict[str, Any] | ValueError, fields: dict[str, Field]
) -> Example | BadRow:
    try:
        if isinstance(row, ValueError):
            raise row
        return take_fields(row, fields)
    except ValueError as error:
        return BadRow(path, number, str(error))
