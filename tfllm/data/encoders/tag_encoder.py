"""Words with a tag each, as a backbone's input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import listed, shown, words_of
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.encoders.word_rows import lay_out_words
from tfllm.data.encoders.word_windows import word_windows
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

__all__ = ["TagEncoder"]


@dataclass(frozen=True)
class TagEncoder:
    """Words as Hugging Face's fast tokenizer encodes words that were parted before.

    A document that is longer than a row becomes several, windows that overlap at words. Each word
    is scored in one window only, the one where it has most context. A word that the tokenizer
    makes nothing of (a zero-width character) becomes the unknown token.

    Columns: `input_ids`, ragged, `uint16` or `uint32`; `word_starts`, ragged `uint8`, 1 on the
    first token of each word that is scored in the row; `tags`, ragged `int32`, the word's class
    there and 0 elsewhere; `window` and `first_word`, `<int32>[rows]`: the row's number among its
    document's, from 0, and the document's word that is scored first in it. Counts: `text_bytes`,
    `words`, `words_unknown` (with an unknown token in them), `words_vanished` (of nothing else),
    `words_cut` (longer than a row), `documents_cut`.

    Attributes:
        tokenizer: its own template adds the special tokens.
        max_tokens: the longest row, special tokens included.
        words: the field of the words.
        tags: the field of their tags, or None.
        labels: names of the tags, in the order of their numbers.
        overlap: tokens at most that a window shares with the one before.

    Raises:
        InputError: if `max_tokens` leaves no room, or there are tags and no names for them.
    """

    tokenizer: FastTokenizer
    max_tokens: int
    words: str = "tokens"
    tags: str | None = "tags"
    labels: tuple[str, ...] = ()
    overlap: int = 64

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if self._room < 1 or not 0 <= self.overlap < self._room:
            raise InputError(
                f"max_tokens {self.max_tokens} leaves {self._room} tokens for words beside special "
                f"tokens, and windows are to share {self.overlap}. Give more tokens, or a smaller "
                "overlap"
            )
        if self.tags is not None and not self.labels:
            raise InputError("tags need labels, the names of their classes. Received: labels=()")

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes; `word_starts` are the weights of `tags` as well."""
        return ("input_ids", "word_starts")

    @property
    def target_column(self) -> str | None:
        """The column to predict, if there is one."""
        return "tags" if self.tags is not None else None

    @property
    def weight_column(self) -> str | None:
        """A word counts once, on its first token."""
        return "word_starts"

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "tags",
            "version": 1,
            "tokenizer": self.tokenizer.fingerprint,
            "max_tokens": self.max_tokens,
            "words": self.words,
            "tags": self.tags,
            "labels": list(self.labels),
            "overlap": self.overlap,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode documents.

        Example:
            "Kim" "lives" "in" "Oslo", tags B-PER O O B-LOC of the classes O, B-PER, B-LOC →
            [CLS] kim lives in os ##lo [SEP], word starts 0 1 1 1 1 0 0, tags 0 1 0 0 2 0 0.
        """
        documents = [words_of(example, self.words) for example in examples]
        kinds = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(documents)))}
        words = _numbers(map(kinds.__getitem__, chain.from_iterable(documents)))
        pieces, counts = self._pieces(list(kinds), words)
        windows, cut = self._windows(_numbers(map(len, documents)), pieces.lengths[words])
        rows = lay_out_words(windows[:, :4], words, pieces, self._template)
        starts = np.zeros(len(rows.ids.values), np.uint8)
        starts[rows.places] = 1
        columns: dict[str, np.ndarray | Ragged] = {
            "input_ids": rows.ids,
            "word_starts": Ragged(starts, rows.ids.lengths),
            "window": windows[:, 4].astype(np.int32),
            "first_word": windows[:, 5].astype(np.int32),
        }
        if self.tags is not None:
            tags = np.zeros(len(starts), np.int32)
            tags[rows.places] = self._classes(examples, documents, self.tags)[rows.words]
            columns["tags"] = Ragged(tags, rows.ids.lengths)
        return Encoded(columns, {**counts, "documents_cut": cut})

    @cached_property
    def _template(self) -> RowTemplate:
        return RowTemplate.of(self.tokenizer.fast, pair=False)

    @property
    def _room(self) -> int:
        return self.max_tokens - self._template.added

    def _pieces(self, kinds: list[str], words: np.ndarray) -> tuple[Ragged, dict[str, int]]:
        """Ids of different words, which don't depend on neighbours, and how often there is what.

        Args:
            kinds: the different words.
            words: `<int64>[words]`: which of them each word is.
        """
        encodings = self.tokenizer.for_words.encode_batch_fast(
            [[word] for word in kinds], is_pretokenized=True, add_special_tokens=False
        )
        ids = [encoding.ids for encoding in encodings]
        vanished = [word for word, found in zip(kinds, ids, strict=True) if not found]
        unknown = self._unknown(vanished)
        room = self._room
        counts = {
            "text_bytes": _numbers(len(word.encode()) for word in kinds)[words],
            "words": np.ones(len(words), np.int64),
            "words_unknown": _numbers(not found or unknown in found for found in ids)[words],
            "words_vanished": _numbers(not found for found in ids)[words],
            "words_cut": _numbers(len(found) > room for found in ids)[words],
        }
        kept = [found[:room] or [unknown] for found in ids]
        summed = {name: int(each.sum()) for name, each in counts.items()}
        return Ragged.of(kept, self.tokenizer.dtype), summed

    def _unknown(self, vanished: list[str]) -> int:
        """The unknown token's id, or -1 where there is none and it is not needed."""
        unknown = self.tokenizer.unknown_id
        if unknown is None and vanished:
            raise InputError(
                f"the tokenizer makes nothing of the word {vanished[0]!r}, and has no unknown "
                "token to put in its place. Take the word out"
            )
        return -1 if unknown is None else unknown

    def _windows(self, counts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, int]:
        """Cut documents, and count those that are cut.

        Args:
            counts: `<int64>[documents]`, words of each.
            sizes: `<int64>[words]`, tokens of each word of all documents.

        Returns:
            `<int64>[rows, 6]`: the four numbers of a `WordWindow`, words being numbered through
            all documents; the window's number in its document; its first scored word there.
        """
        bounds = [0, *np.cumsum(counts).tolist()]
        before = [0, *np.cumsum(sizes).tolist()]
        room = self._room
        rows = []
        cut = 0
        for first, end in zip(bounds, bounds[1:], strict=False):
            if before[end] - before[first] <= room:
                rows.append((first, end, first, end, 0, 0))
                continue
            cut += 1
            windows = word_windows(sizes[first:end].tolist(), room, self.overlap)
            for number, window in enumerate(windows):
                rows.append((*(first + w for w in window), number, window.scored_first))
        return np.array(rows, np.int64).reshape(-1, 6), cut

    def _classes(
        self, examples: Sequence[Mapping[str, Any]], documents: list[list[str]], field: str
    ) -> np.ndarray:
        """Class of each word of all documents, `<int64>[words]`."""
        numbers = {name: number for number, name in enumerate(self.labels)}
        classes: list[int] = []
        for example, words in zip(examples, documents, strict=True):
            tags = words_of(example, field)
            if len(tags) != len(words):
                raise InputError(
                    f"an example has {len(words)} words in {self.words!r} and {len(tags)} tags in "
                    f"{field!r}: {shown(example)}. Give each word one"
                )
            try:
                classes += [numbers[tag] for tag in tags]
            except KeyError as error:
                raise InputError(
                    f"the tags {field!r} of an example must be of {listed(self.labels)}. "
                    f"Received: {error.args[0]!r} in {shown(example)}"
                ) from None
        return _numbers(classes)


def _numbers(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, np.int64)
