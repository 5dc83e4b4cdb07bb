"""Documents as rows of an encoder, nothing cut off."""

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

__all__ = ["DocumentRowEncoder"]


@dataclass(frozen=True)
class DocumentRowEncoder:
    """Each document as `[CLS] … [SEP]`; a long one becomes several rows, cut between words.

    A document without a token gives no row.

    Columns, ragged, of one length in each row: `input_ids`, `uint16` or `uint32`, and
    `word_starts`, `uint8`, 1 on special tokens and on the first token of each word. Counts:
    `documents`, `documents_cut`, `text_bytes`.

    Attributes:
        words: tokenizes, and knows words.
        max_tokens: the longest row, special tokens included.
        text: the field that holds the document.

    Raises:
        InputError: if `max_tokens` leaves no room for text.
    """

    words: WordedTokenizer
    max_tokens: int
    text: str = "text"

    def __post_init__(self) -> None:
        """Check the size."""
        if self.max_tokens <= self._template.added:
            raise InputError(
                f"--sequence_length {self.max_tokens} leaves no room for text beside "
                f"{self._template.added} special tokens. Give more"
            )

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "document rows",
            "version": 1,
            **self.words.identity(),
            "max_tokens": self.max_tokens,
            "text": self.text,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode documents.

        Example:
            "the embedding sat" in rows of 6 → [CLS] the em ##bed ##ding [SEP] and [CLS] sat [SEP],
            word starts 1 1 1 0 0 1 and 1 1 1.
        """
        texts = texts_of(examples, self.text)
        before, after = (np.array(gap, np.int64) for gap in self._template.gaps)
        room = self.max_tokens - self._template.added
        ids, starts, lengths, cut = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)], [], 0
        for tokens, begins in self.words(texts).parts():
            parts = word_cuts(begins, room)
            cut += len(parts) > 1
            for first, end in parts:
                ids += [before, tokens[first:end], after]
                starts += [np.ones_like(before), _begun(begins[first:end]), np.ones_like(after)]
                lengths.append(len(before) + end - first + len(after))
        sizes = np.array(lengths, np.int64)
        columns: dict[str, np.ndarray | Ragged] = {
            "input_ids": Ragged(np.concatenate(ids).astype(self.words.tokenizer.dtype), sizes),
            "word_starts": Ragged(np.concatenate(starts).astype(np.uint8), sizes),
        }
        counts = {
            "documents": len(texts),
            "documents_cut": cut,
            "text_bytes": sum(len(text.encode()) for text in texts),
        }
        return Encoded(columns, counts)

    @cached_property
    def _template(self) -> RowTemplate:
        return RowTemplate.of(self.words.tokenizer.fast, pair=False)


def _begun(word_starts: np.ndarray) -> np.ndarray:
    """What a cut leaves of a word begins with its first token."""
    starts = word_starts.copy()
    starts[0] = 1
    return starts
