"""CoNLL columns: one token a line, sentences parted by blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.iob2 import TagScheme, check_tag, to_iob2
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.errors import InputError

__all__ = ["Conll"]

# Other white space, U+3000 or U+00A0, can be a token.
_BLANKS = " \t"
_GAP = re.compile(r"[ \t]+")
_DOCUMENT_START = "-DOCSTART-"
# As short a token as possible, then one or two digits.
_WITH_POSITION = re.compile(r"(.+?)[0-9]{1,2}", re.DOTALL)


@dataclass(frozen=True)
class Conll(Reader):
    """Examples `{"tokens": […], "tags": […]}`, one a sentence, from columns of tokens and tags.

    Blank lines and `-DOCSTART-` lines part sentences. A sentence with a line that can't be read, or
    has not as many columns as the file's first one, is left out whole, and named by that line.

    Attributes:
        paths: paths and globs, packed with gzip or not.
        token_column: counts from 0, or from the end with -1.
        tag_column: the same; None for text without tags, whose examples have only tokens.
        scheme: how tags mark spans; they come out as IOB2, see `to_iob2`. None keeps tags as they
            are, for parts of speech.
        delimiter: what parts columns; None for runs of spaces and tabs.
        positions_in_tokens: drop the one or two digits that Weibo NER writes after each
            character, its place in its word.
    """

    paths: Paths
    token_column: int = 0
    tag_column: int | None = -1
    scheme: TagScheme | None = "iob2"
    delimiter: str | None = None
    positions_in_tokens: bool = False

    def __post_init__(self) -> None:
        """Check the scheme, and find the files."""
        if self.scheme is not None and self.scheme not in get_args(TagScheme):
            listed = ", ".join(get_args(TagScheme))
            raise InputError(f"scheme must be one of {listed}, or None. Received: {self.scheme!r}")
        super().__post_init__()

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        columns: int | None = None
        for sentence in _sentences(path):
            if columns is None:
                columns = len(self._cells(sentence[0][1]))
            yield sentence[0][0], self._example(path, sentence, columns)

    def _example(
        self, path: Path, sentence: list[tuple[int, str, BadRow | None]], columns: int
    ) -> Example | BadRow:
        tokens, tags = [], []
        for number, line, fault in sentence:
            if fault:
                return fault
            try:
                token, tag = self._columns(line, columns)
            except ValueError as error:
                return BadRow(path, number, str(error))
            tokens.append(token)
            tags.append(tag)
        if self.tag_column is None:
            return {"tokens": tokens}
        return {"tokens": tokens, "tags": to_iob2(tags, self.scheme) if self.scheme else tags}

    def _cells(self, line: str) -> list[str]:
        return line.split(self.delimiter) if self.delimiter else _GAP.split(line.strip(_BLANKS))

    def _columns(self, line: str, columns: int) -> tuple[str, str]:
        cells = self._cells(line)
        if len(cells) < self._least_columns:
            raise ValueError(f"has {len(cells)} columns, fewer than {self._least_columns}")
        if len(cells) != columns:
            # A space within a token, say: the tag would be taken from another column.
            raise ValueError(f"has {len(cells)} columns, and the file's first line {columns}")
        token = cells[self.token_column]
        if not token:
            raise ValueError("has no token")
        tag = "" if self.tag_column is None else cells[self.tag_column]
        if self.tag_column is not None and self.scheme:
            check_tag(tag, self.scheme)
        return self._without_position(token), tag

    @cached_property
    def _least_columns(self) -> int:
        wanted = [c for c in (self.token_column, self.tag_column) if c is not None]
        # With a tag there are two at least, or -1 would take the token for it.
        return max(len(wanted), *(c + 1 if c >= 0 else -c for c in wanted))

    def _without_position(self, token: str) -> str:
        if not self.positions_in_tokens:
            return token
        match = _WITH_POSITION.fullmatch(token)
        if match is None:
            raise ValueError(f"has the token {ascii(token)} without a position")
        return match[1]


def _sentences(path: Path) -> Iterator[list[tuple[int, str, BadRow | None]]]:
    sentence: list[tuple[int, str, BadRow | None]] = []
    for number, (line, fault) in enumerate(read_lines(path), 1):
        if line.strip(_BLANKS) and not line.startswith(_DOCUMENT_START):
            sentence.append((number, line, fault))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence
