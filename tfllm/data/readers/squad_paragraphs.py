"""The paragraphs of SQuAD's JSON, as documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.readers.squad import paragraphs_of

__all__ = ["SquadParagraphs"]


@dataclass(frozen=True)
class SquadParagraphs(Reader):
    """One example a paragraph: `{"id": "Normans:3", "title": "Normans", "text": str}`.

    The id is the article's title and the paragraph's number in it, from 1. Underscores of a title
    are spaces in `title`. A whole file is parsed at once; bad rows are named by the paragraph's
    number in its file.

    Attributes:
        paths: paths and globs, packed with gzip or not.
    """

    paths: Paths

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        of_article: Counter[str] = Counter()
        for number, (title, paragraph) in enumerate(paragraphs_of(path), 1):
            try:
                title = Field("title").read(title)
                of_article[title] += 1
                context = paragraph.get("context") if isinstance(paragraph, dict) else None
                yield (
                    number,
                    {
                        "id": f"{title}:{of_article[title]}",
                        "title": title.replace("_", " "),
                        "text": Field("context", blank=False).read(context),
                    },
                )
            except ValueError as error:
                yield number, BadRow(path, number, f"(paragraph {number}) {error}")
