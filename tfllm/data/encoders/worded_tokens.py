"""Texts as tokens, with the places where their words begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from tfllm.data.encoders.chinese_words import check_chinese_words, chinese_word_starts
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.encoders.word_marks import WordMarks
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["WordKind", "WordedTokenizer", "WordedTokens"]

WordKind = Literal["pieces", "chinese"]


class WordedTokens(NamedTuple):
    """Tokens of texts, without special tokens around them.

    Attributes:
        ids: of each text.
        word_starts: `<uint8>[tokens]`, 1 on the first token of each word.
    """

    ids: Ragged
    word_starts: np.ndarray

    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and word starts of each text."""
        bounds = [0, *np.cumsum(self.ids.lengths).tolist()]
        return [
            (self.ids.values[first:end], self.word_starts[first:end])
            for first, end in zip(bounds, bounds[1:], strict=False)
        ]


@dataclass(frozen=True)
class WordedTokenizer:
    """Tokenizes texts and says where words begin.

    Attributes:
        tokenizer: of the vocabulary.
        words: `pieces`: a word is what the vocabulary's marks join, `em ##bed ##ding`;
            `chinese`: it is a word of jieba's, 房间, whose tokens are one a character.

    Raises:
        InputError: if the vocabulary has no such marks, or jieba is not installed.
    """

    tokenizer: FastTokenizer
    words: WordKind = "pieces"

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if self.words not in get_args(WordKind):
            kinds = ", ".join(get_args(WordKind))
            raise InputError(f"--words must be one of {kinds}. Received: {self.words!r}")
        if self.words == "chinese":
            check_chinese_words()
        else:
            _ = self._marks

    def identity(self) -> dict[str, Any]:
        """What decides where words begin."""
        jieba = {"jieba": check_chinese_words()} if self.words == "chinese" else {}
        return {"tokenizer": self.tokenizer.fingerprint, "words": self.words, **jieba}

    def __call__(self, texts: Sequence[str]) -> WordedTokens:
        """Tokenize.

        Example:
            "the embedding" → the em ##bed ##ding, word starts 1 1 0 0; as Chinese, "房间很大" →
            房 间 很 大, word starts 1 0 1 0.
        """
        if self.words == "chinese":
            return self._chinese(texts)
        encodings = self.tokenizer.fast.encode_batch_fast(texts, add_special_tokens=False)
        ids = Ragged.of([encoding.ids for encoding in encodings], self.tokenizer.dtype)
        return WordedTokens(ids, self._marks.word_starts(*ids))

    def _chinese(self, texts: Sequence[str]) -> WordedTokens:
        # Only the slower of two ways to encode says where tokens stand in their text.
        encodings = self.tokenizer.fast.encode_batch(texts, add_special_tokens=False)
        ids = Ragged.of([encoding.ids for encoding in encodings], self.tokenizer.dtype)
        starts = [_starts(text, found) for text, found in zip(texts, encodings, strict=True)]
        return WordedTokens(ids, np.concatenate([np.zeros(0, np.uint8), *starts]))

    @cached_property
    def _marks(self) -> WordMarks:
        return WordMarks.of(self.tokenizer)

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what can be made again."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def _starts(text: str, encoding: tokenizers.Encoding) -> np.ndarray:
    """Where a token begins at a word's beginning, and shares no character with the one before."""
    if not encoding.ids:
        return np.zeros(0, np.uint8)
    first, end = np.array(encoding.offsets).T
    starts = chinese_word_starts(text)[first]
    starts[1:] &= first[1:] >= end[:-1]
    starts[0] = True
    return starts.astype(np.uint8)
