"""Comma-separated values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Fields, as_fields
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.readers.tables import quoted_cells, table_examples

__all__ = ["Csv"]


@dataclass(frozen=True)
class Csv(Reader):
    """Examples from the rows of CSV files (RFC 4180); blank lines are passed over.

    A quoted cell may hold commas, line ends and doubled quotes. Quotes are taken strictly: one
    that is never closed, or text after a closing one, makes a bad row instead of swallowing what
    follows. A bad row is named by the line where it begins.

    Attributes:
        paths: paths and globs, packed with gzip or not.
        fields: name in the example → column, or a `Field` where it is no text.
        columns: names of the columns; None if the first row of each file holds them.
        delimiter: what parts the cells.
    """

    paths: Paths
    fields: Fields
    columns: Sequence[str] | None = None
    delimiter: str = ","

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[Example | BadRow]:
        rows = quoted_cells(path, self.delimiter)
        for _, row in table_examples(path, rows, as_fields(self.fields), self.columns):
            yield row
