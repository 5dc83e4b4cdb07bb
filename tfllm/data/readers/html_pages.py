"""The text of HTML pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.extras import import_extra
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.text_files import open_bytes

__all__ = ["HtmlPages"]


@dataclass(frozen=True)
class HtmlPages(Reader):
    """Examples `{"text": …}`, the main text of a page each, without menus, footers and comments.

    trafilatura finds the text, and the page's encoding, which need not be UTF-8. A page in which
    it finds none is a bad row. Needs the extra `html`.

    Attributes:
        paths: paths and globs, one page a file, packed with gzip or not.
        tables: whether the text of tables is kept.
    """

    paths: Paths
    tables: bool = True

    def __post_init__(self) -> None:
        """Find the files.

        Raises:
            InputError: if there are none, or trafilatura is not installed.
        """
        super().__post_init__()
        import_extra("trafilatura", "html", "reading HTML")

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[None, Example | BadRow]]:
        trafilatura = import_extra("trafilatura", "html", "reading HTML")
        with open_bytes(path) as file:
            page = file.read()
        text = trafilatura.extract(page, include_comments=False, include_tables=self.tables)
        yield None, {"text": text} if text else BadRow(path, None, "has no main text")
