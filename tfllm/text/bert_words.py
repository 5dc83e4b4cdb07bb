"""BERT's normalization of a text, and its split into words, by tables of characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tokenizers

from tfllm.text.added_token import AddedToken
from tfllm.text.added_token_finder import AddedTokenFinder, Found
from tfllm.text.bert_characters import (
    ADDED,
    ISOLATED,
    LETTER,
    SPACE,
    BertNormalization,
    CharacterTable,
    combining_order,
    decompositions,
    rewritings,
)
from tfllm.text.byte_level_words import classify
from tfllm.text.code_point_classes import PAGE_SIZE

__all__ = ["BertWords", "Words", "normalized_content"]


class Words(NamedTuple):
    """The words of all texts, one after another."""

    code_points: tf.Tensor
    """`<int32>[n]`, normalized, without the spaces between words."""
    sources: tf.Tensor
    """`<int32>[n]`: the code point of the texts that each was."""
    begins: tf.Tensor
    """`<int32>[words]`: each word's first place in `code_points`; it ends where the next begins."""
    added_ids: tf.Tensor
    """`<int32>[words]`: id of the added token that the word is, or -1."""


class _Characters(NamedTuple):
    """Characters on their way: `[n]` each, all texts one after another."""

    code_points: tf.Tensor
    """`<int32>`."""
    classes: tf.Tensor
    """`<uint8>`: LETTER, ISOLATED, SPACE or ADDED."""
    sources: tf.Tensor
    """`<int32>`: the code point of the texts that each was."""
    segments: tf.Tensor
    """`<int32>`: number of the text, of the added token, or of what follows one."""
    added_ids: tf.Tensor
    """`<int32>`: id of the added token that starts here, or -1."""


class BertWords(tf.Module):
    """Normalizes texts as `BertNormalizer` does and splits them as `BertPreTokenizer` does.

    ```
    texts ─► added tokens ─► normalized, by a table ─► added tokens ─► words, by classes
             as they are     of each code point        `normalized`
    ```

    Decomposed marks are put in canonical order only where that shows: where one stands that isn't
    dropped.

    Args:
        normalization: the settings.
        added_tokens: what to find.
        special_too: whether special tokens are found, or are plain text.
        normalizer: the normalizer that these settings describe, or None.
    """

    def __init__(
        self,
        normalization: BertNormalization,
        added_tokens: Sequence[AddedToken],
        *,
        special_too: bool,
        normalizer: tokenizers.normalizers.Normalizer | None,
    ) -> None:
        """Build the tables."""
        super().__init__(name="bert_words")
        late = [
            replace(token, content=normalized_content(token, normalizer))
            for token in added_tokens
            if token.normalized
        ]
        early = [token for token in added_tokens if not token.normalized]
        self._early = AddedTokenFinder(early, special_too=special_too)
        self._late = AddedTokenFinder(late, special_too=special_too) if late else None
        self._strips = any(token.lstrip or token.rstrip for token in added_tokens)
        self._normalization = normalization
        self._chinese_in_spaces = bool(late)
        self._marks = _surviving_marks(normalization)

    def __call__(self, code_points: tf.Tensor, text_starts: tf.Tensor) -> Words:
        """Find the words.

        Args:
            code_points: `<int32>[n]`, the texts one after another.
            text_starts: `<bool>[n]`.
        """
        found = self._early(code_points, self._space_classes(code_points), text_starts)
        count = tf.size(code_points)
        characters = _Characters(
            code_points=code_points,
            classes=tf.where(found.within, tf.constant(ADDED, tf.uint8), LETTER),
            sources=tf.range(count),
            segments=tf.cumsum(tf.cast(found.segment_starts, tf.int32)),
            added_ids=found.ids,
        )
        normalized = self._normalize(characters)
        if self._late is not None:
            normalized = self._find_late(self._late, normalized)
        return _split(normalized)

    def _normalize(self, characters: _Characters) -> _Characters:
        table = rewritings(self._normalization, chinese_in_spaces=self._chinese_in_spaces)
        if not self._marks.size:
            return _rewrite(table, characters)
        shows = tf.reduce_any(_is_in(characters.code_points, self._marks))
        return tf.cond(
            shows,
            lambda: self._normalize_in_order(characters),
            lambda: _rewrite(table, characters),
        )

    def _normalize_in_order(self, characters: _Characters) -> _Characters:
        """Decompose, sort marks, then drop and lower-case."""
        decomposed = _rewrite(decompositions(self._normalization), characters)
        rest = BertNormalization(
            clean_text=False,
            handle_chinese_chars=False,
            strip_accents=True,
            lowercase=self._normalization.lowercase,
        )
        return _rewrite(rewritings(rest, chinese_in_spaces=True), _in_canonical_order(decomposed))

    def _find_late(self, finder: AddedTokenFinder, characters: _Characters) -> _Characters:
        """Find the tokens that are looked for in normalized text, in what is left over."""
        is_added = characters.classes == ADDED
        free = tf.where(is_added, -1, characters.code_points)
        space_classes = self._space_classes(tf.maximum(free, 0))
        found: Found = finder(free, space_classes, _is_first(characters.segments))
        return characters._replace(
            classes=tf.where(found.within, tf.constant(ADDED, tf.uint8), characters.classes),
            segments=tf.cumsum(tf.cast(found.segment_starts, tf.int32)),
            added_ids=tf.maximum(found.ids, characters.added_ids),
        )

    def _space_classes(self, code_points: tf.Tensor) -> tf.Tensor:
        """Return the classes that stripping added tokens asks for."""
        return classify(code_points) if self._strips else tf.zeros_like(code_points, tf.uint8)


def normalized_content(
    token: AddedToken, normalizer: tokenizers.normalizers.Normalizer | None
) -> str:
    """Return what is looked for in normalized text."""
    return token.content if normalizer is None else normalizer.normalize_str(token.content)


def _surviving_marks(normalization: BertNormalization) -> np.ndarray:
    """Return `<int32>[marks]`: code points of which a mark remains that can change places."""
    if not normalization.strip_accents:
        return np.zeros([0], np.int32)
    order = combining_order()
    table = rewritings(normalization, chinese_in_spaces=False)
    is_mark = order[np.maximum(table.outputs, 0)] > 0
    entries = np.repeat(np.arange(table.lengths.size), table.lengths)[is_mark]
    entry_of = table.pages[table.page_of].reshape(-1)
    own = (entry_of == LETTER) | (entry_of == ISOLATED)
    return np.flatnonzero(np.isin(entry_of, entries) | (own & (order > 0))).astype(np.int32)


def _is_in(code_points: tf.Tensor, members: np.ndarray) -> tf.Tensor:
    """Say of each code point whether it is one of the members, which are in order."""
    place = tf.searchsorted(tf.constant(members), code_points)
    return tf.gather(tf.constant(np.append(members, -1), tf.int32), place) == code_points


def _is_first(groups: tf.Tensor) -> tf.Tensor:
    return groups != tf.concat([[-1], groups], 0)[:-1]


def _rewrite(table: CharacterTable, characters: _Characters) -> _Characters:
    """Put in place of each character what it becomes; added tokens stay."""
    code_points, is_added = characters.code_points, characters.classes == ADDED
    page = tf.gather(tf.constant(table.page_of), code_points // PAGE_SIZE)
    pages = tf.constant(table.pages.reshape(-1))
    entries = tf.gather(pages, page * PAGE_SIZE + code_points % PAGE_SIZE)
    entries = tf.where(is_added, table.added, entries)
    lengths = tf.gather(tf.constant(table.lengths), entries)
    ends = tf.cumsum(lengths)
    total = tf.reduce_sum(lengths)
    # Each output belongs to the last character that starts there or before.
    marks = tf.tensor_scatter_nd_add(
        tf.zeros([total + 1], tf.int32), (ends - lengths)[:, None], tf.ones_like(ends)
    )
    origin = tf.cumsum(marks[:-1]) - 1
    within = tf.range(total) - tf.gather(ends - lengths, origin)
    place = tf.gather(tf.gather(tf.constant(table.starts), entries), origin) + within
    outputs = tf.gather(tf.constant(table.outputs), place)
    return _Characters(
        code_points=tf.where(outputs < 0, tf.gather(code_points, origin), outputs),
        classes=tf.gather(tf.constant(table.classes), place),
        sources=tf.gather(characters.sources, origin),
        segments=tf.gather(characters.segments, origin),
        added_ids=tf.gather(characters.added_ids, origin),
    )


def _in_canonical_order(characters: _Characters) -> _Characters:
    """Sort the marks between starters by their combining class.

    As in `tokenizers`, a mark that came by decomposition keeps to what stands before it, and the
    others share out the original characters anew, in their new order.
    """
    rank = tf.cast(_combining_rank(characters), tf.int64)
    count = tf.cast(tf.size(rank), tf.int64)
    runs = tf.cumsum(tf.cast((rank == 0) | _is_first(characters.segments), tf.int64))
    # The place makes keys unique, so equal marks keep their order.
    keys = (runs * 256 + rank) * count + tf.range(count)
    moved = tf.sort(keys) % tf.maximum(count, 1)
    first = _is_first(characters.sources)
    shares = tf.cumsum(tf.cast(tf.gather(first, moved), tf.int32)) - 1
    return _Characters(
        code_points=tf.gather(characters.code_points, moved),
        classes=tf.gather(characters.classes, moved),
        sources=tf.gather(tf.boolean_mask(characters.sources, first), shares),
        segments=characters.segments,
        added_ids=tf.gather(characters.added_ids, moved),
    )


def _combining_rank(characters: _Characters) -> tf.Tensor:
    order = combining_order()
    marks = np.flatnonzero(order).astype(np.int32)
    place = tf.searchsorted(tf.constant(marks), characters.code_points)
    rank = tf.gather(tf.constant(np.append(order[marks], 0), tf.int32), place)
    is_mark = _is_in(characters.code_points, marks) & (characters.classes != ADDED)
    return tf.where(is_mark, rank, 0)


def _split(characters: _Characters) -> Words:
    """Drop the spaces between words and say where words begin."""
    classes = characters.classes
    before = tf.concat([tf.constant([SPACE], tf.uint8), classes], 0)[:-1]
    starts = (classes == ISOLATED) | (before == ISOLATED) | (before == SPACE)
    starts |= _is_first(characters.segments)
    kept = tf.reshape(tf.where(classes != SPACE), [-1])
    begins = tf.cast(tf.reshape(tf.where(tf.gather(starts, kept)), [-1]), tf.int32)
    return Words(
        code_points=tf.gather(characters.code_points, kept),
        sources=tf.gather(characters.sources, kept),
        begins=begins,
        added_ids=tf.gather(tf.gather(characters.added_ids, kept), begins),
    )
