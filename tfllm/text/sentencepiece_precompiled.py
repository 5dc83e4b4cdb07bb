"""SentencePiece's own normalization, as `tokenizers` applies it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfllm.text.sentencepiece_charsmap import LONGEST_KEY, read_charsmap
from tfllm.text.sentencepiece_expansion import CodePointExpansion
from tfllm.text.sentencepiece_graphemes import grapheme_starts
from tfllm.text.sentencepiece_text import TracedText, shift_left, shift_right

__all__ = ["PrecompiledNormalizer"]

_UTF8_LIMITS = (0x80, 0x800, 0x10000)
_BITS = 21
_NO_KEY = -1


class PrecompiledNormalizer(tf.Module):
    """The normalizer `Precompiled` of `tokenizers`, in graph.

    A grapheme of up to five bytes that starts with a key of the table is replaced as a whole, by
    what belongs to the shortest such key: `e` and an acute, or a carriage return and a line feed.
    Any other grapheme is replaced code point by code point.

    Alignments are `tokenizers`' too, its slips included: what is removed at the beginning of a
    segment isn't counted, so that everything after it is aligned with what stands before.

    Args:
        charsmap: the table, `precompiled_charsmap`.
    """

    def __init__(self, charsmap: bytes) -> None:
        """Read the table."""
        super().__init__(name="precompiled_normalizer")
        replacements = read_charsmap(charsmap)
        singles = {ord(key): text for key, text in replacements.items() if len(key) == 1}
        # No grapheme of five bytes has more than three code points. Behind a key that is one code
        # point, no longer key is ever looked at.
        shortest = {
            key: text
            for key, text in replacements.items()
            if len(key) in (2, 3) and ord(key[0]) not in singles
        }
        numbers = range(len(singles) + 1, len(singles) + len(shortest) + 1)
        # A table may not be empty, so one entry is there that nothing finds.
        self._sequences = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([_NO_KEY, *map(_packed, shortest)], tf.int64),
                tf.constant([0, *numbers], tf.int32),
            ),
            default_value=0,
        )
        self._table = CodePointExpansion(singles, sequences=list(shortest.values()))

    def __call__(self, text: TracedText) -> TracedText:
        """Normalize it."""
        starts = grapheme_starts(text)
        entries = self._table.entries(text.code_points)
        entries, begins = tf.cond(
            tf.reduce_all(starts),
            lambda: (entries, starts),
            lambda: self._replace_graphemes(text, entries, starts),
        )
        return tf.cond(
            tf.reduce_any(entries > 0),
            lambda: self._apply(text, entries, begins),
            lambda: text,
        )

    def _replace_graphemes(
        self, text: TracedText, entries: tf.Tensor, starts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Let whole graphemes be replaced.

        Returns:
            `<int32>[n]`: entry of each unit at its first code point, and `<bool>[n]`: where units
            begin. A unit is what is replaced at once, or a single code point.
        """
        sizes = 1 + sum(tf.cast(text.code_points >= limit, tf.int32) for limit in _UTF8_LIMITS)
        grapheme = tf.cumsum(tf.cast(starts, tf.int32)) - 1
        sizes = tf.math.segment_sum(sizes, grapheme)
        small = tf.gather(sizes <= LONGEST_KEY, grapheme)
        found = tf.where(starts & small & (entries == 0), self._sequence(text, starts), entries)
        swallowed = small & ~starts & (tf.gather(tf.boolean_mask(found, starts), grapheme) > 0)
        return tf.where(swallowed, 0, found), ~swallowed

    def _sequence(self, text: TracedText, starts: tf.Tensor) -> tf.Tensor:
        """Return `<int32>[n]`: entry of the shortest key of several code points, or 0."""
        found = tf.zeros_like(text.code_points)
        packed = tf.cast(text.code_points, tf.int64) + 1
        following, going_on = text.code_points, tf.fill([tf.size(starts)], True)
        ends = shift_left(starts, True)
        for _ in range(2):
            going_on &= ~ends
            ends = shift_left(ends, True)
            following = shift_left(following, 0)
            packed = packed * 2**_BITS + tf.cast(following, tf.int64) + 1
            here = going_on & (found == 0)
            found = tf.where(here, self._sequences.lookup(tf.where(here, packed, _NO_KEY)), found)
        return found

    def _apply(self, text: TracedText, entries: tf.Tensor, begins: tf.Tensor) -> TracedText:
        firsts = tf.cast(tf.reshape(tf.where(begins), [-1]), tf.int32)
        count = tf.size(entries)
        olds = tf.concat([firsts[1:], [count]], 0)[: tf.size(firsts)] - firsts
        entries = tf.gather(entries, firsts)
        news = self._table.lengths(entries)
        units = tf.repeat(tf.range(tf.size(news)), news)
        within = tf.range(tf.size(units)) - tf.gather(tf.cumsum(news, exclusive=True), units)
        unit_firsts = tf.gather(firsts, units)
        values = self._table.values(
            tf.gather(entries, units), within, tf.gather(text.code_points, unit_firsts)
        )
        sources = tf.cond(
            tf.reduce_all(news > 0),
            lambda: unit_firsts + tf.minimum(within, tf.gather(olds, units) - 1),
            lambda: _slipping_sources(text, firsts, olds, news, units, within),
        )
        return TracedText(
            code_points=values,
            origins=tf.gather(text.origins, sources),
            segments=tf.gather(text.segments, unit_firsts),
        )


def _slipping_sources(
    text: TracedText,
    firsts: tf.Tensor,
    olds: tf.Tensor,
    news: tf.Tensor,
    units: tf.Tensor,
    within: tf.Tensor,
) -> tf.Tensor:
    """Return `<int32>[outputs]`: with which code point each output is aligned.

    Each output takes one code point along, or none if its unit has become longer, or more if
    something was removed. What a unit loses is added to the last output so far. It is forgotten
    where there is none in the segment.
    """
    count = tf.size(units)
    output_segments = tf.gather(text.segments, tf.gather(firsts, units))
    unit_segments = tf.gather(text.segments, firsts)
    last = tf.cumsum(news) - 1
    owner = tf.gather(tf.concat([output_segments, [-1]], 0), tf.where(last < 0, count, last))
    lost = tf.where((owner == unit_segments) & (last >= 0), tf.maximum(olds - news, 0), 0)
    changes = tf.cast(within >= tf.gather(olds, units), tf.int32)
    changes -= tf.math.unsorted_segment_sum(lost, last, count)
    taken = tf.where(changes > 0, 0, 1 - changes)
    before = tf.cumsum(taken, exclusive=True)
    # Each segment counts from its own beginning.
    output_starts = output_segments != shift_right(output_segments, -1)
    run = tf.cumsum(tf.cast(output_starts, tf.int32)) - 1
    places = tf.reshape(tf.where(text.starts()), [-1])
    begin_of = tf.math.unsorted_segment_max(
        tf.cast(places, tf.int32),
        tf.gather(text.segments, places),
        tf.reduce_max(tf.concat([text.segments, [-1]], 0)) + 1,
    )
    base = tf.gather(begin_of, output_segments)
    base -= tf.gather(tf.boolean_mask(before, output_starts), run)
    return base + before - tf.cast(changes > 0, tf.int32)


def _packed(key: str) -> int:
    packed = 0
    for character in key:
        packed = (packed << _BITS) + ord(character) + 1
    return int(np.int64(packed))
