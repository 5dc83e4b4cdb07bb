"""Which tokens of a running text begin a word, in graph, for any tokenizer.

A tagger learns from texts that came as words, and gives each word's first token a tag. A text that
is served comes as a string, so its words must be found as those of training were made:

- words are split at white space;
- punctuation at the edges of what is left is a word for each token: `(Washington,` is three;
- punctuation within stays, as in `U.S`, `1996-08-22` and `Israel-Lebanon`; but a possessive
  `'s` at the end is a word, as in most corpora of English;
- a Chinese character ends the word before it and begins one.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["Words", "find_words"]

_SPACE = r"[\s\pZ]"
_PUNCTUATION = r"[\pP\pS]"
_CHINESE = r"\p{Han}"
_POSSESSIVE = r"(?s)['’][sS]([^\pL\pN].*)?"


class Words(NamedTuple):
    """Words of all texts, one after another: `<int32>[words]` each."""

    texts: tf.Tensor
    """Which text it stands in."""
    tokens: tf.Tensor
    """Its first token, counted through all texts' tokens."""
    starts: tf.Tensor
    """First byte, counted from the text's start; never white space."""
    ends: tf.Tensor
    """Byte after its last."""


class _Characters(NamedTuple):
    """Characters of all texts, one after another, and one more at the end."""

    bytes: tf.Tensor
    """`<int64>[characters]`, where each starts, counted through all texts."""
    is_space: tf.Tensor
    is_punctuation: tf.Tensor
    is_chinese: tf.Tensor
    is_possessive: tf.Tensor
    """Whether a possessive ending starts here."""


class _Tokens(NamedTuple):
    """What is to be known of each token: `<bool>[tokens]`, but for the last."""

    goes_on: tf.Tensor
    """Whether it stands in the same run of characters as the token before it."""
    overlaps: tf.Tensor
    """Whether it shares a character with the token before it."""
    is_space: tf.Tensor
    """Whether it is white space alone."""
    is_punctuation: tf.Tensor
    """Whether it is punctuation, but for white space before it."""
    is_possessive: tf.Tensor
    starts: tf.Tensor
    """`<int32>[tokens]`, its first byte past white space, from the text's start."""


def find_words(texts: tf.Tensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> Words:
    """Find the words of texts that were tokenized.

    Args:
        texts: `<string>[batch]`.
        starts: `<int32>[batch, (tokens)]`, each token's first byte. Special tokens that the
            tokenizer found in a text are tokens like any other.
        ends: the byte after its last.

    Example:
        `"(U.S. oil)"` as `( U . S . oil )` → words that begin at the tokens 0, 1, 4, 5, 6.
    """
    rows = tf.cast(starts.value_rowids(), tf.int32)
    tokens = _looked_at(texts, rows, starts.flat_values, ends.flat_values)
    is_start = _begins_a_word(tokens)
    (firsts,) = tf.unstack(tf.where(is_start), num=1, axis=1)
    # White space that begins no word belongs to none: it must not make the word before it longer.
    inside = tf.where(is_start | ~tokens.is_space)[:, 0]
    word_of = tf.gather(tf.cumsum(tf.cast(is_start, tf.int32)) - 1, inside)
    word_ends = tf.math.segment_max(tf.gather(ends.flat_values, inside), word_of)
    return Words(
        tf.gather(rows, firsts),
        tf.cast(firsts, tf.int32),
        tf.gather(tokens.starts, firsts),
        word_ends,
    )


def _begins_a_word(tokens: _Tokens) -> tf.Tensor:
    """`<bool>[tokens]`."""
    runs = tf.cumsum(tf.cast(~tokens.goes_on, tf.int32)) - 1
    solid = tf.cast(~tokens.is_punctuation & ~tokens.is_space, tf.int32)
    before = tf.cumsum(solid, exclusive=True)
    in_run = tf.math.segment_sum(solid, runs)
    before -= tf.gather(tf.cumsum(in_run, exclusive=True), runs)
    at_an_edge = (before == 0) | tokens.is_punctuation & (before == tf.gather(in_run, runs))
    # A sign for a space alone is the first token of the word that it stands before.
    into_word = tf.concat([(tokens.goes_on & ~tokens.is_space)[1:], [False]], 0)[: tf.size(runs)]
    is_sign = tokens.is_space & ~tokens.goes_on & into_word
    parts = (at_an_edge | tokens.is_possessive) & ~_shifted(is_sign) & ~tokens.overlaps
    return is_sign | ~tokens.is_space & (~tokens.goes_on | parts)


def _looked_at(texts: tf.Tensor, rows: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> _Tokens:
    """Look up each token's characters."""
    characters, text_starts = _characters(texts)
    offsets = tf.gather(text_starts, rows)
    first = tf.searchsorted(characters.bytes, offsets + tf.cast(starts, tf.int64), side="right") - 1
    end = tf.searchsorted(characters.bytes, offsets + tf.cast(ends, tf.int64))
    solid = tf.where(~characters.is_space)[:, 0]
    past_space = tf.gather(solid, tf.gather(_counted(~characters.is_space), first))
    words = _counted(~characters.is_space & ~characters.is_punctuation)
    is_space = past_space >= tf.cast(end, tf.int64)
    in_same_text = rows == tf.concat([[-1], rows], 0)[:-1]
    ends_before = tf.concat([[0], ends], 0)[:-1]
    overlaps = in_same_text & (starts < ends_before)
    touches = in_same_text & (starts == ends_before)
    ends_chinese = _shifted(tf.gather(characters.is_chinese, tf.maximum(end - 1, 0)))
    parted = tf.gather(characters.is_space | characters.is_chinese, first) | ends_chinese
    return _Tokens(
        goes_on=overlaps | touches & ~parted,
        overlaps=overlaps,
        is_space=is_space,
        is_punctuation=~is_space & (tf.gather(words, end) == tf.gather(words, first)),
        is_possessive=tf.gather(characters.is_possessive, first),
        starts=tf.cast(tf.gather(characters.bytes, past_space) - offsets, tf.int32),
    )


def _characters(texts: tf.Tensor) -> tuple[_Characters, tf.Tensor]:
    """Split texts, and say where each starts, `<int64>[batch]`, as if they followed one another."""
    split, offsets = tf.strings.unicode_split_with_offsets(texts, "UTF-8")
    lengths = tf.cast(tf.strings.length(texts), tf.int64)
    text_starts = tf.cumsum(lengths, exclusive=True)
    rows = split.value_rowids()
    flat = tf.concat([split.flat_values, ["x"]], 0)
    places = tf.concat(
        [tf.gather(text_starts, rows) + offsets.flat_values, [tf.reduce_sum(lengths)]], 0
    )
    # A character and the two after it, none of the next text.
    three = tf.strings.join([flat[:-1], *(_after(split.flat_values, rows, n) for n in (1, 2))])
    possessive = tf.strings.regex_full_match(three, _POSSESSIVE)
    found = _Characters(
        places,
        tf.strings.regex_full_match(flat, _SPACE),
        tf.strings.regex_full_match(flat, _PUNCTUATION),
        tf.strings.regex_full_match(flat, _CHINESE),
        tf.concat([possessive, [False]], 0),
    )
    return found, text_starts


def _after(characters: tf.Tensor, rows: tf.Tensor, distance: int) -> tf.Tensor:
    """The character so much further in the same row, or nothing."""
    count = tf.size(rows)
    their_rows = tf.concat([rows[distance:], tf.fill([distance], tf.constant(-1, rows.dtype))], 0)
    theirs = tf.concat([characters[distance:], tf.fill([distance], "")], 0)
    return tf.where(rows == their_rows[:count], theirs[:count], "")


def _counted(flags: tf.Tensor) -> tf.Tensor:
    """How many flags are set before each, `<int32>[flags]`."""
    return tf.cumsum(tf.cast(flags, tf.int32), exclusive=True)


def _shifted(flags: tf.Tensor) -> tf.Tensor:
    """The flag before each, False before the first."""
    return tf.concat([[False], flags], 0)[:-1]
