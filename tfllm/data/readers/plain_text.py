"""Plain text as examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.text_files import DocumentUnit, read_documents

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

    def _read(self, path: Path) -> Iterator[Example]:
        for document in read_documents([path], self.unit):
            yield {"text": document}
