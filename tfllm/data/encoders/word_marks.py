"""Which tokens of a vocabulary begin a word, by how they are written."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

__all__ = ["WordMarks"]

_BYTE_LEVEL, _SENTENCEPIECE = "Ġ", "▁"
# White space that no mark is for; the first three are how byte-level vocabularies write it.
_LINE_ENDS = tuple("Ċĉč\n\t\r")


class WordMarks(NamedTuple):
    """By id, `<bool>[vocabulary_size]` each.

    Attributes:
        begins: whether a word begins with the token.
        ends: whether the next token begins a word, however it is written.
    """

    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, tokenizer: FastTokenizer) -> WordMarks:
        """Read a vocabulary: WordPiece's `##`, byte-level `Ġ` or SentencePiece's `▁`.

        Raises:
            InputError: if its tokens are written in none of these ways.
        """
        state = json.loads(tokenizer.json)
        vocabulary = tokenizer.fast.get_vocab(with_added_tokens=True)
        begins = np.zeros(tokenizer.vocabulary_size, bool)
        ends = np.zeros(tokenizer.vocabulary_size, bool)
        if state["model"]["type"] == "WordPiece":
            inside = state["model"]["continuing_subword_prefix"]
            for token, number in vocabulary.items():
                begins[number] = not token.startswith(inside)
        else:
            mark = _mark(vocabulary)
            for token, number in vocabulary.items():
                begins[number] = token.startswith((mark, *_LINE_ENDS))
                ends[number] = token.endswith(_LINE_ENDS)
        _set_special(begins, ends, state, tokenizer.unknown_id)
        return cls(begins, ends)

    def word_starts(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where words begin in texts, `<uint8>[tokens]`; each text begins with one.

        Args:
            ids: `<int>[tokens]`, text after text.
            lengths: `<int64>[texts]`.
        """
        starts = self.begins[ids]
        starts[1:] |= self.ends[ids[:-1]]
        starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        return starts.astype(np.uint8)


def _mark(vocabulary: dict[str, int]) -> str:
    counts = {
        mark: sum(token.startswith(mark) for token in vocabulary)
        for mark in (_BYTE_LEVEL, _SENTENCEPIECE)
    }
    mark = max(counts, key=lambda mark: counts[mark])
    if not counts[mark]:
        raise InputError(
            "the vocabulary doesn't say where words begin: none of its tokens is written with "
            f"##, {_BYTE_LEVEL} or {_SENTENCEPIECE}. Give a WordPiece, byte-level or SentencePiece "
            "vocabulary"
        )
    return mark


def _set_special(
    begins: np.ndarray, ends: np.ndarray, state: dict[str, Any], unknown_id: int | None
) -> None:
    """A special token stands alone; but an unknown one is a part of its word."""
    for token in state["added_tokens"]:
        if token["special"] and token["id"] != unknown_id:
            begins[token["id"]] = ends[token["id"]] = True
