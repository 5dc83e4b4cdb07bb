"""Tab-separated values, quoted or raw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Fields, as_fields
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.readers.tables import quoted_cells, split_cells, table_examples

__all__ = ["Tsv"]


@dataclass(frozen=True)
class Tsv(Reader):
    """Examples from the rows of TSV files; blank lines are passed over.

    Attributes:
        paths: paths and globs, packed with gzip or not.
        fields: name in the example → column, or a `Field` where it is no text.
        columns: names of the columns; None if the first row of each file holds them.
        quoting: whether quotes around a cell are its shell, as in `Csv`. False if they are text:
            GLUE's files hold sentences that begin with a quote and never close it.
    """

    paths: Paths
    fields: Fields
    columns: Sequence[str] | None = None
    quoting: bool = True

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        rows = quoted_cells(path, "\t") if self.quoting else split_cells(path, "\t")
        return table_examples(path, rows, as_fields(self.fields), self.columns)
