"""The sentences of documents, for pairs of texts that follow each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import texts_of
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.encoders.word_cuts import word_cuts
from tfllm.data.encoders.worded_tokens import WordedTokenizer
from tfllm.errors import InputError

__all__ = ["SentenceEncoder"]


@dataclass(frozen=True)
class SentenceEncoder:
    """A row for each line of a document: BERT's published format, one sentence a line.

    A sentence that fills more than half a pair is cut between words into several, so that any two
    that follow each other fit into a pair, whole. Sentences in a row are grouped into chunks, as
    many as a pair holds.

    Columns: `input_ids`, ragged, `uint16` or `uint32`, without special tokens; `word_starts`,
    ragged `uint8`; `document_starts` and `chunk_starts`, `<uint8>[rows]`, 1 on the first sentence
    of each document and of each chunk. Counts: `documents`; `documents_of_lines`, those of two
    lines or more; `sentences_cut`; `text_bytes`.

    Attributes:
        words: tokenizes, and knows words.
        max_tokens: of a pair, special tokens included.
        text: the field that holds the document.

    Raises:
        InputError: if `max_tokens` leaves no room for two texts.
    """

    words: WordedTokenizer
    max_tokens: int
    text: str = "text"

    def __post_init__(self) -> None:
        """Check the size."""
        if self.room < 2:
            raise InputError(
                f"--sequence_length {self.max_tokens} leaves {self.room} tokens for two texts "
                "beside their special tokens. Give more"
            )

    @property
    def room(self) -> int:
        """Tokens of two texts together."""
        return self.max_tokens - self._template.added

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "sentences",
            "version": 1,
            **self.words.identity(),
            "max_tokens": self.max_tokens,
            "text": self.text,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode documents.

        Example:
            a document of lines of 3, 9 and 2 tokens, 13 tokens in a pair of texts → sentences of
            3, 6, 3 and 2 tokens, the first three a chunk.
        """
        texts = texts_of(examples, self.text)
        lines = [[line for line in text.split("\n") if line.strip()] for text in texts]
        tokens = iter(self.words([line for some in lines for line in some]).parts())
        rows = _Sentences()
        for some in lines:
            rows.add_document([next(tokens) for _ in some], self.room)
        counts = {
            "documents": len(texts),
            "documents_of_lines": rows.documents_of_lines,
            "sentences_cut": rows.cut,
            "text_bytes": sum(len(text.encode()) for text in texts),
        }
        return Encoded(rows.columns(self.words.tokenizer.dtype), counts)

    @cached_property
    def _template(self) -> RowTemplate:
        return RowTemplate.of(self.words.tokenizer.fast, pair=True)


class _Sentences:
    """Rows, as they grow."""

    def __init__(self) -> None:
        self.documents_of_lines = 0
        self.cut = 0
        self._ids = [np.zeros(0, np.int64)]
        self._word_starts = [np.zeros(0, np.uint8)]
        self._lengths: list[int] = []
        self._document_starts: list[bool] = []
        self._chunk_starts: list[bool] = []

    def add_document(self, lines: list[tuple[np.ndarray, np.ndarray]], room: int) -> None:
        lines = [line for line in lines if len(line[0])]
        self.documents_of_lines += len(lines) > 1
        begins, filled = True, 0
        for ids, word_starts in lines:
            parts = word_cuts(word_starts, room // 2)
            self.cut += len(parts) > 1
            for first, end in parts:
                size = end - first
                starts_chunk = begins or filled + size > room
                filled = size if starts_chunk else filled + size
                self._ids.append(ids[first:end])
                self._word_starts.append(word_starts[first:end])
                self._lengths.append(size)
                self._document_starts.append(begins)
                self._chunk_starts.append(starts_chunk)
                begins = False

    def columns(self, dtype: np.dtype[Any]) -> dict[str, np.ndarray | Ragged]:
        lengths = np.array(self._lengths, np.int64)
        return {
            "input_ids": Ragged(np.concatenate(self._ids).astype(dtype), lengths),
            "word_starts": Ragged(np.concatenate(self._word_starts), lengths),
            "document_starts": np.array(self._document_starts, np.uint8),
            "chunk_starts": np.array(self._chunk_starts, np.uint8),
        }
