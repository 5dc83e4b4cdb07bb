"""Plain text as examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.text_files import DocumentUnit, check_unit, read_documents

__all__ = ["PlainText"]


@dataclass(frozen=True)
class PlainText(Reader):
    """Examples `{"text": …}` from plain text; documents of white space alone are passed over.

    Attributes:
        paths: paths and globs, packed with gzip or not.
        unit: what one example is: a `file`, what stands between blank lines, or a `line`.
    """

    paths: Paths
    unit: DocumentUnit = "line"

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def __post_init__(self) -> None:
        """Check the unit, and find the files."""
        check_unit(self.unit)
        super().__post_init__()

    def _read(self, path: Path) -> Iterator[tuple[None, Example]]:
        for document in read_documents([path], self.unit):
            yield None, {"text": document}
