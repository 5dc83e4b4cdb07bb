"""Comma-separated values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Fields, as_fields
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.readers.tables import quoted_cells, table_examples
from tfllm.errors import InputError

__all__ = ["Csv"]


@dataclass(frozen=True)
class Csv(Reader):
    """Examples from the rows of CSV files (RFC 4180); blank lines are passed over.

    A quoted cell may hold commas, line ends and doubled quotes. Quotes are taken strictly: where
    one is never closed, or text follows a closing one, the line where that row begins is a bad
    row, and reading goes on with the next line, so that no row is swallowed.

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

    def __post_init__(self) -> None:
        """Check the delimiter, and find the files."""
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise InputError(
                "delimiter must be one character, and no quote or line end. Received: "
                f"{self.delimiter!r}"
            )
        super().__post_init__()

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        rows = quoted_cells(path, self.delimiter)
        return table_examples(path, rows, as_fields(self.fields), self.columns)
