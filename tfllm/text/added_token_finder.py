"""Finding added tokens such as `<|endoftext|>` in texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfllm.text.added_token import AddedToken
from tfllm.text.code_point_classes import SPACE

__all__ = ["AddedTokenFinder", "Found"]


class Found(NamedTuple):
    """Where added tokens stand in some texts, which lie one after another."""

    segment_starts: tf.Tensor
    """`<bool>[n]`: first of a text, of an added token, or of what follows one."""
    within: tf.Tensor
    """`<bool>[n]`: part of an added token."""
    ids: tf.Tensor
    """`<int32>[n]`: id of the added token that starts here, or -1."""


class AddedTokenFinder(tf.Module):
    """Finds added tokens as `tokenizers` does: leftmost first, of these the longest.

    Tokens with `normalized` are looked for in what the others leave over.

    Args:
        tokens: what to find.
        special_too: whether special tokens are found, or are plain text.
    """

    def __init__(self, tokens: Sequence[AddedToken], *, special_too: bool = True) -> None:
        """Build a table of the tokens."""
        super().__init__(name="added_token_finder")
        groups = [[t for t in tokens if t.normalized is flag] for flag in (False, True)]
        self._passes = [
            _Pass(group, special_too=special_too)
            for group in groups
            # A special token that is not to be found may still hide another that it overlaps.
            if any(special_too or not token.special for token in group)
        ]

    def __call__(self, code_points: tf.Tensor, classes: tf.Tensor, text_starts: tf.Tensor) -> Found:
        """Find them.

        Args:
            code_points: `<int32>[n]`.
            classes: `<uint8>[n]`, of `classify`.
            text_starts: `<bool>[n]`.
        """
        nothing = tf.zeros_like(text_starts)
        found = Found(text_starts, nothing, tf.fill([tf.size(code_points)], -1))
        for one_pass in self._passes:
            found = one_pass(code_points, classes, found)
        return found


class _Matches(NamedTuple):
    """Occurrences in order: `[starts, ends)` and what is found, `<int32>[matches]` each."""

    starts: tf.Tensor
    ends: tf.Tensor
    tokens: tf.Tensor
    """Places in the list of tokens."""

    def where(self, kept: tf.Tensor) -> _Matches:
        return _Matches(*[tf.boolean_mask(value, kept) for value in self])


class _Pass(tf.Module):
    """One look for a list of tokens, in what isn't `within` a token yet."""

    def __init__(self, tokens: Sequence[AddedToken], *, special_too: bool) -> None:
        super().__init__(name="added_token_pass")
        self._first_letters = sorted({ord(token.content[0]) for token in tokens})
        self._lengths = sorted({len(token.content) for token in tokens}, reverse=True)
        self._strips_left = np.array([token.lstrip for token in tokens])
        self._strips_right = np.array([token.rstrip for token in tokens])
        self._ids = np.array([token.id for token in tokens], np.int32)
        self._ignored = np.array([token.special and not special_too for token in tokens])
        self._tokens = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([token.content for token in tokens]),
                tf.range(len(tokens), dtype=tf.int32),
            ),
            default_value=-1,
        )

    def __call__(self, code_points: tf.Tensor, classes: tf.Tensor, found: Found) -> Found:
        starting = code_points == self._first_letters[0]
        for letter in self._first_letters[1:]:
            starting |= code_points == letter
        return tf.cond(
            tf.reduce_any(starting),
            lambda: self._find(code_points, classes, found, starting),
            lambda: found,
        )

    def _find(
        self, code_points: tf.Tensor, classes: tf.Tensor, found: Found, starting: tf.Tensor
    ) -> Found:
        matches = _without_overlaps(self._all_matches(code_points, found, starting))
        matches = matches.where(~tf.gather(self._ignored, matches.tokens))
        if self._strips_left.any() or self._strips_right.any():
            matches = self._strip(matches, classes, found)
        return _mark(found, matches, tf.gather(self._ids, matches.tokens))

    def _all_matches(self, code_points: tf.Tensor, found: Found, starting: tf.Tensor) -> _Matches:
        """Return the longest match at each place that has one."""
        count = tf.size(code_points)
        places = tf.cast(tf.reshape(tf.where(starting), [-1]), tf.int32)
        # A window is in one piece if no segment starts within it, and free if its first is.
        segment = tf.cumsum(tf.cast(found.segment_starts, tf.int32))
        free = ~tf.gather(found.within, places)
        tokens = tf.fill([tf.size(places)], -1)
        lengths = tf.zeros_like(places)
        for length in self._lengths:
            last = tf.minimum(places + length - 1, count - 1)
            whole = (places + length <= count) & free & (tokens < 0)
            whole &= tf.gather(segment, last) == tf.gather(segment, places)
            index = tf.boolean_mask(places, whole)[:, None] + tf.range(length)
            windows = tf.strings.unicode_encode(tf.gather(code_points, index), "UTF-8")
            here = tf.where(whole)
            tokens = tf.tensor_scatter_nd_update(tokens, here, self._tokens.lookup(windows))
            lengths = tf.where(whole, length, lengths)
        return _Matches(places, places + lengths, tokens).where(tokens >= 0)

    def _strip(self, matches: _Matches, classes: tf.Tensor, found: Found) -> _Matches:
        """Let the matches take the whitespace around them, as far as it is in their segment."""
        count = tf.size(classes)
        segments = tf.cast(tf.reshape(tf.where(found.segment_starts), [-1]), tf.int32)
        segments = tf.concat([segments, [count]], 0)
        solid = tf.cast(tf.reshape(tf.where(classes != SPACE), [-1]), tf.int32)
        solid = tf.concat([[-1], solid, [count]], 0)

        place = tf.searchsorted(segments, matches.ends, side="left")
        segment_ends = tf.gather(segments, place)
        place = tf.searchsorted(solid, matches.ends, side="left")
        stripped_ends = tf.minimum(tf.gather(solid, place), segment_ends)
        ends = tf.where(tf.gather(self._strips_right, matches.tokens), stripped_ends, matches.ends)

        place = tf.searchsorted(segments, matches.starts, side="right") - 1
        segment_begins = tf.gather(segments, place)
        place = tf.searchsorted(solid, matches.starts, side="left") - 1
        stripped_starts = tf.maximum(tf.gather(solid, place) + 1, segment_begins)
        # What the match before has taken is gone.
        stripped_starts = tf.maximum(stripped_starts, tf.concat([[0], ends], 0)[:-1])
        starts = tf.where(
            tf.gather(self._strips_left, matches.tokens), stripped_starts, matches.starts
        )
        return _Matches(starts, ends, matches.tokens)


def _without_overlaps(matches: _Matches) -> _Matches:
    """Keep the first match, the next one that starts where it has ended, and so on."""
    count = tf.size(matches.starts)
    following = tf.searchsorted(matches.starts, matches.ends, side="left")
    following = tf.concat([following, [count]], 0)
    kept = tf.range(count + 1) == 0

    def double(kept: tf.Tensor, jump: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """From all that are k steps away or less to all that are 2k or less."""
        reached = tf.boolean_mask(jump, kept)
        yes = tf.ones_like(reached, tf.bool)
        kept = tf.tensor_scatter_nd_update(kept, reached[:, None], yes)
        return kept, tf.gather(jump, jump)

    kept, _ = tf.while_loop(
        lambda kept, jump: jump[0] < count,
        double,
        (kept, following),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
    )
    return matches.where(kept[:-1])


def _mark(found: Found, matches: _Matches, ids: tf.Tensor) -> Found:
    count = tf.size(found.ids)
    change = tf.zeros([count + 1], tf.int32)
    ones = tf.ones_like(matches.starts)
    change = tf.tensor_scatter_nd_add(change, matches.starts[:, None], ones)
    change = tf.tensor_scatter_nd_add(change, matches.ends[:, None], -ones)
    edges = tf.concat([matches.starts, matches.ends], 0)
    # The last end may lie behind the last text.
    starts = tf.concat([found.segment_starts, [True]], 0)
    starts = tf.tensor_scatter_nd_update(starts, edges[:, None], tf.ones_like(edges, tf.bool))
    return Found(
        segment_starts=starts[:-1],
        within=found.within | (tf.cumsum(change)[:-1] > 0),
        ids=tf.tensor_scatter_nd_update(found.ids, matches.starts[:, None], ids),
    )
