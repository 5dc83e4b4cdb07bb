"""Words with tags, out of files in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.conll import Conll
from tfllm.data.readers.field import Field
from tfllm.data.readers.iob2 import TagScheme, to_iob2
from tfllm.data.readers.reader import Example, Located, OnError, Reader
from tfllm.data.showcase import Showcase
from tfllm.data.tasks.files import is_tfds, open_by_suffix, suffix_of
from tfllm.data.tasks.parts import Parts, open_parts
from tfllm.data.text_files import find_files

__all__ = ["read_tagged_words"]

_NAMED = (".jsonl", ".json", ".parquet")


def read_tagged_words(
    train: Sequence[str] = (),
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    scheme: TagScheme | None = "iob2",
    token_column: int = 0,
    tag_column: int = -1,
    delimiter: str | None = None,
    positions_in_tokens: bool = False,
    tokens: str = "tokens",
    tags: str = "tags",
    validation_fraction: float = 0.05,
    on_error: OnError = "refuse",
) -> Parts:
    """Open words with tags, or without any those that tfllm brings.

    Examples are `{"tokens": [str, …], "tags": [str, …]}`, the tags as IOB2 unless there is no
    scheme.

    Args:
        train: paths and globs: `.jsonl`, `.json` and `.parquet` with two lists a row, anything
            else in CoNLL columns; or one data set of TFDS, see `read_examples`.
        validation: the same; without any, training sentences are split by a hash of their words.
        test: the same.
        scheme: how tags mark spans, see `to_iob2`; None keeps them as they are.
        token_column: of CoNLL columns, from 0.
        tag_column: the same; -1 is the last.
        delimiter: what parts CoNLL columns; None for runs of spaces and tabs.
        positions_in_tokens: see `Conll`.
        tokens: key, column or feature of the words.
        tags: key, column or feature of the tags.
        validation_fraction: share of the sentences that the hash deals to validation.
        on_error: whether a row that can't be read ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read.
    """
    fields = {"tokens": Field(tokens, "texts"), "tags": Field(tags, "texts")}

    def open_part(patterns: Sequence[str], flag: str) -> Reader:
        if not is_tfds(patterns):
            files = find_files(patterns, flag)
            if not any(path.name.removesuffix(".gz").endswith(_NAMED) for path in files):
                return Conll(
                    files,
                    token_column,
                    tag_column,
                    scheme,
                    delimiter,
                    positions_in_tokens,
                    on_error=on_error,
                )
            suffix_of(files, flag, _NAMED)
        reader = open_by_suffix(patterns, flag, fields, on_error=on_error)
        return _TaggedRows(reader, scheme, on_error=on_error)

    return open_parts(
        open_part,
        train,
        validation,
        test,
        showcase=Showcase("entities"),
        split_by=["tokens"],
        validation_fraction=validation_fraction,
    )


@dataclass(frozen=True)
class _TaggedRows(Reader):
    """Rows of two lists, checked, their tags as IOB2."""

    reader: Reader
    scheme: TagScheme | None

    @property
    def name(self) -> str:
        return self.reader.name

    def located(self) -> Iterator[Located]:
        for path, line, row in self.reader.located():
            try:
                yield path, line, row if isinstance(row, BadRow) else self._checked(row)
            except ValueError as error:
                yield path, line, BadRow(path, line, str(error))

    def digest(self) -> str:
        parts = (self.reader.digest(), self.scheme)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _checked(self, row: Example) -> Example:
        words, tags = row["tokens"], row["tags"]
        if len(words) != len(tags):
            raise ValueError(f"has {len(words)} words and {len(tags)} tags")
        if not words:
            raise ValueError("has no words")
        return {"tokens": words, "tags": to_iob2(tags, self.scheme) if self.scheme else tags}

    def _find(self) -> tuple[Path, ...]:
        return self.reader.files
