r"""GPT-2's split of a text into words, by comparing neighbours instead of by a regex engine.

The words are the matches of

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

Every code point is a letter, a number, a space or something else, so a word starts

- where the class changes, unless a U+0020 stands before, which belongs to the word;
- at a run of spaces, and again at the run's last space if something follows (it is that word's
  leading space if it is a U+0020, and a word of its own otherwise);
- before and after a contraction. A quote can only start one where a match ends, and that is
  everywhere but behind a U+0020 or another "something else": those have swallowed the quote.
"""

from __future__ import annotations

import tensorflow as tf

from tfllm.text.code_point_classes import LETTER, NUMBER, PAGE_SIZE, SPACE, code_point_pages

__all__ = ["ADDED", "classify", "word_starts"]

ADDED = 4
"""Class of the code points of an added token, which is one word whatever it is made of."""

_ONE_LETTER = [ord(c) for c in "stmd"]
_TWO_LETTERS = [(ord(a), ord(b)) for a, b in ("re", "ve", "ll")]


def classify(code_points: tf.Tensor) -> tf.Tensor:
    """Turn `<int32>[n]` code points into `<uint8>[n]` classes."""
    table = code_point_pages()
    page = tf.gather(tf.constant(table.page_of), code_points // PAGE_SIZE)
    classes = tf.constant(table.pages.reshape(-1))
    return tf.gather(classes, page * PAGE_SIZE + code_points % PAGE_SIZE)


def word_starts(code_points: tf.Tensor, classes: tf.Tensor, segment_starts: tf.Tensor) -> tf.Tensor:
    """Say where words start.

    Args:
        code_points: `<int32>[n]`, the texts one after another.
        classes: `<uint8>[n]`, of `classify`, or ADDED.
        segment_starts: `<bool>[n]`: first of a text, of an added token, or of what follows one.

    Returns:
        `<bool>[n]`.
    """
    spaces = classes == SPACE
    plain_spaces = spaces & (code_points == ord(" "))
    before = tf.concat([classes[:1], classes[:-1]], 0)
    behind_plain_space = tf.concat([plain_spaces[:1], plain_spaces[:-1]], 0)
    goes_on = tf.concat([~segment_starts[1:] & ~spaces[1:], [False]], 0)[: tf.size(spaces)]
    starts = tf.where(
        spaces,
        (before != SPACE) | goes_on,
        (before != classes) & ~behind_plain_space,
    )
    return _around_contractions(starts | segment_starts, code_points, classes, segment_starts)


def _around_contractions(
    starts: tf.Tensor, code_points: tf.Tensor, classes: tf.Tensor, segment_starts: tf.Tensor
) -> tf.Tensor:
    """Add a start after each contraction and drop those within."""
    count = tf.size(code_points)
    quotes = tf.reshape(tf.where((code_points == ord("'")) & (classes != ADDED)), [-1])
    quotes = tf.cast(quotes, tf.int32)
    before = tf.gather(classes, tf.maximum(quotes - 1, 0))
    plain_space = tf.gather(code_points, tf.maximum(quotes - 1, 0)) == ord(" ")
    free = (before == LETTER) | (before == NUMBER) | ((before == SPACE) & ~plain_space)
    free |= tf.gather(segment_starts, quotes)

    def letter(distance: int) -> tf.Tensor:
        """Return the code point that far behind the quote in its segment, or else -1."""
        place = tf.minimum(quotes + distance, count - 1)
        within = (quotes + distance < count) & ~tf.gather(segment_starts, place)
        return tf.where(within, tf.gather(code_points, place), -1)

    first, second = letter(1), letter(2)
    short = tf.reduce_any(first[:, None] == _ONE_LETTER, axis=1)
    pairs = [(first == a) & (second == b) for a, b in _TWO_LETTERS]
    long = (pairs[0] | pairs[1] | pairs[2]) & (first >= 0)
    lengths = tf.where(short, 2, 3)
    found = free & (short | long)
    quotes, lengths = quotes[found], lengths[found]
    inner = tf.concat([quotes + 1, tf.boolean_mask(quotes + 2, lengths == 3)], 0)
    ends = quotes + lengths
    ends = ends[ends < count]
    starts = tf.tensor_scatter_nd_update(starts, inner[:, None], tf.zeros_like(inner, tf.bool))
    return tf.tensor_scatter_nd_update(starts, ends[:, None], tf.ones_like(ends, tf.bool))
