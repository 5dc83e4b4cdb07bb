"""A table from code points to the code points that replace them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tokenizers import normalizers

from tfllm.text.sentencepiece_pages import CODE_POINTS, CodePointPages
from tfllm.text.sentencepiece_text import TracedText

__all__ = ["CodePointExpansion", "expansions_of"]

# Nothing stands in these planes, or only ideographs and private use: nothing to replace.
_EMPTY = (range(0x30000, 0xE0000), range(0xE1000, 0x110000))
_SURROGATES = range(0xD800, 0xE000)
_RUN = 4096


class CodePointExpansion:
    """Replaces code points by none, one or several, whatever stands around them.

    What a code point becomes is aligned with what the code point was aligned with.

    Args:
        replacements: code point → the text that replaces it. All others stay.
        sequences: further replacements, for entries that somebody else finds; they are numbered
            after those of the code points, which are numbered from 1.
    """

    def __init__(self, replacements: Mapping[int, str], *, sequences: Sequence[str] = ()) -> None:
        """Build the tables."""
        entries = np.zeros(CODE_POINTS, np.int32)
        entries[list(replacements)] = np.arange(1, len(replacements) + 1)
        self._entries = CodePointPages(entries)
        texts = ["", *replacements.values(), *sequences]
        self._lengths = np.array([len(text) for text in texts], np.int32)
        self._begins = np.cumsum(self._lengths, dtype=np.int32) - self._lengths
        self._values = np.array([ord(c) for text in texts for c in text] or [0], np.int32)

    def __call__(self, text: TracedText) -> TracedText:
        """Replace them."""
        entries = self.entries(text.code_points)
        return tf.cond(tf.reduce_any(entries > 0), lambda: self._apply(text, entries), lambda: text)

    def entries(self, code_points: tf.Tensor) -> tf.Tensor:
        """Return `<int32>[n]`: number of each one's replacement, or 0 where it stays."""
        return self._entries.of(code_points)

    def lengths(self, entries: tf.Tensor) -> tf.Tensor:
        """Return `<int32>[n]`: code points of each replacement; 1 where it stays."""
        return tf.where(entries > 0, tf.gather(tf.constant(self._lengths), entries), 1)

    def values(self, entries: tf.Tensor, within: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
        """Return code point number `within` of each replacement; `otherwise` where it stays."""
        place = tf.gather(tf.constant(self._begins), entries) + tf.where(entries > 0, within, 0)
        # The last replacement may be empty: nothing asks for what lies behind it.
        place = tf.minimum(place, len(self._values) - 1)
        return tf.where(entries > 0, tf.gather(tf.constant(self._values), place), otherwise)

    def _apply(self, text: TracedText, entries: tf.Tensor) -> TracedText:
        lengths = self.lengths(entries)
        sources = tf.repeat(tf.range(tf.size(lengths)), lengths)
        begins = tf.cumsum(lengths, exclusive=True)
        within = tf.range(tf.size(sources)) - tf.gather(begins, sources)
        result = text.take(sources)
        values = self.values(tf.gather(entries, sources), within, result.code_points)
        return result._replace(code_points=values)


def expansions_of(steps: Iterable[normalizers.Normalizer]) -> dict[int, str]:
    """Return what each code point becomes by `steps`, for those that they change.

    The steps are asked about all code points at once, so they must leave the newline alone and
    may not look at neighbours across it.
    """
    normalizer = normalizers.Sequence(list(steps))
    found: dict[int, str] = {}
    asked = np.ones(CODE_POINTS, bool)
    asked[ord("\n")] = False
    for skipped in (_SURROGATES, *_EMPTY):
        asked[skipped.start : skipped.stop] = False
    characters = [chr(c) for c in np.flatnonzero(asked)]
    for begin in range(0, len(characters), _RUN):
        some = characters[begin : begin + _RUN]
        text = "\n".join(some)
        normalized = normalizer.normalize_str(text)
        if normalized == text:
            continue
        for before, after in zip(some, normalized.split("\n"), strict=True):
            if before != after:
                found[ord(before)] = after
    return found
