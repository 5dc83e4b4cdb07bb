"""Documents to be searched, out of files in one call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Example, Located, OnError, Paths, Reader
from tfllm.data.readers.squad_paragraphs import SquadParagraphs
from tfllm.data.tasks.files import is_tfds, open_by_suffix, suffix_of
from tfllm.data.text_files import find_files

__all__ = ["read_documents"]

_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")
_BEIR = "corpus.jsonl"


def read_documents(
    corpus: Sequence[str],
    *,
    document_id: str = "_id",
    title: str = "title",
    text: str = "text",
    flag: str = "--corpus",
    on_error: OnError = "refuse",
) -> Reader:
    """Open documents: examples `{"id", "title", "text"}`, in the order of the files.

    `text` is what is searched and given back: title and text, joined by a space. An id that was
    there before, and a document without text, is a row that can't be read.

    Args:
        corpus: paths and globs: `.txt`, one document a line, whose id is its number; `.jsonl`,
            `.csv`, `.tsv` or `.parquet` with fields; `.json` of SQuAD, whose paragraphs they are;
            one data set of TFDS; or one folder in BEIR's layout.
        document_id: field of the id.
        title: field of the title, which may be missing.
        text: field of the text.
        flag: what names the files, for messages.
        on_error: whether a document that can't be read ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read.
    """
    if len(corpus) == 1:
        inside = [os.path.join(corpus[0], name) for name in (_BEIR, f"{_BEIR}.gz")]
        corpus = next(([path] for path in inside if os.path.isfile(path)), corpus)
    if not is_tfds(corpus):
        files = find_files(corpus, flag)
        suffix = suffix_of(files, flag, _SUFFIXES)
        if suffix == ".txt":
            return _Documents(_NumberedLines(files), on_error=on_error)
        if suffix == ".json":
            return _Documents(SquadParagraphs(files, on_error=on_error), on_error=on_error)
    fields = {
        "id": Field(document_id, "label", flag="--document_id"),
        "title": Field(title, default="", flag="--title"),
        "text": Field(text, blank=False, flag="--text"),
    }
    return _Documents(open_by_suffix(corpus, flag, fields, on_error=on_error), on_error=on_error)


@dataclass(frozen=True)
class _NumberedLines(Reader):
    """Lines of plain text, named by their number; blank ones are passed over."""

    paths: Paths

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def located(self) -> Iterator[Located]:
        count = 0
        for path in self.files:
            for number, (line, fault) in enumerate(read_lines(path), 1):
                count += 1
                if fault:
                    yield path, number, fault
                elif line.strip():
                    yield path, number, {"id": str(count), "title": "", "text": line}


@dataclass(frozen=True)
class _Documents(Reader):
    """Documents with titles in their texts and no id twice; all ids are in memory."""

    reader: Reader

    @property
    def name(self) -> str:
        return self.reader.name

    def located(self) -> Iterator[Located]:
        places: dict[str, str] = {}
        for path, line, row in self.reader.located():
            if isinstance(row, BadRow):
                yield path, line, row
                continue
            name, place = str(row["id"]), f"{path}:{line}"
            if not name:
                yield path, line, BadRow(path, line, "has a blank id")
            elif name in places:
                yield path, line, BadRow(path, line, f"has the id {name!r} of {places[name]}")
            else:
                places[name] = place
                yield path, line, _document(name, row)

    def digest(self) -> str:
        return hashlib.sha256(f"documents 1 {self.reader.digest()}".encode()).hexdigest()

    def _find(self) -> tuple[Path, ...]:
        return self.reader.files


def _document(name: str, row: Example) -> Example:
    title, text = row["title"].strip(), row["text"].strip()
    return {"id": name, "title": title, "text": f"{title} {text}" if title else text}
