"""Byte-pair merges of many words at once, exactly and without a cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ["BytePairMerger", "WordPieces"]

_NO_MERGE = np.iinfo(np.int32).max
# Below this many bytes, a word's merges are few enough to take one rank at a time.
_LONG_WORD = 512


class WordPieces(NamedTuple):
    """The pieces of some words, one word after another."""

    ids: tf.Tensor
    """`<int32>[pieces]`."""
    first_bytes: tf.Tensor
    """`<int32>[pieces]`: where in its word each starts."""
    counts: tf.Tensor
    """`<int32>[words]`: number of pieces of each word."""


class _Symbols(NamedTuple):
    """Words that are still being merged, one after another."""

    ids: tf.Tensor
    """`<int32>[symbols]`."""
    words: tf.Tensor
    """`<int32>[symbols]`, not decreasing."""
    places: tf.Tensor
    """`<int32>[symbols]`: each one's first byte among the bytes of all words."""
    ranks: tf.Tensor
    """`<int32>[symbols]`: of the merge with the next symbol of the word, or `_NO_MERGE`."""


class BytePairMerger(tf.Module):
    """Splits words into pieces: `<string>[words]` → ids.

    BPE merges the pair of lowest rank, leftmost first, until no pair of the word can be merged.
    One turn of the loop does that in every word, for all occurrences of that word's lowest rank.
    That is the same thing, because what such a merge makes can only be merged again at a later
    rank. The few merges of which this isn't true (their result is also made by another merge) are
    done one occurrence per turn.

    In a long word, a pair may be merged in the same turn as another one far from it, if no pair
    of lower rank is within reach: a merge changes a distant pair only through a chain of merges
    that grows one token from here to there, and no token is longer than `reach` bytes.

    Args:
        merges: `<int32>[merges, 3]`: left id, right id and result of each, by rank.
        byte_ids: `<int32>[256]`: id of each byte.
        vocabulary_size: number of ids.
        reach: bytes of the longest token that a merge makes.
    """

    def __init__(
        self, merges: np.ndarray, byte_ids: np.ndarray, vocabulary_size: int, reach: int
    ) -> None:
        """Build the table of the merges."""
        super().__init__(name="byte_pair_merger")
        self._vocabulary_size = vocabulary_size
        self._reach = reach
        self._byte_ids = byte_ids.astype(np.int32)
        self._results = np.append(merges[:, 2], 0).astype(np.int32)
        self._one_by_one = _made_into_something_earlier(merges)
        keys = merges[:, 0].astype(np.int64) * vocabulary_size + merges[:, 1]
        ranks = np.arange(len(keys), dtype=np.int32)
        # A table must hold something; no pair has a negative key.
        self._ranks = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(np.append(keys, -1)),
                tf.constant(np.append(ranks, _NO_MERGE), tf.int32),
            ),
            default_value=_NO_MERGE,
        )

    def __call__(self, words: tf.Tensor) -> WordPieces:
        """Split `<string>[words]`, none of them empty."""
        values = tf.io.decode_raw(tf.strings.reduce_join(words), tf.uint8)
        lengths = tf.strings.length(words)
        word_of_byte = tf.repeat(tf.range(tf.size(words)), lengths)
        ids = tf.gather(self._byte_ids, tf.cast(values, tf.int32))
        symbols = _Symbols(
            ids=ids,
            words=word_of_byte,
            places=tf.range(tf.size(ids)),
            ranks=self._rank_pairs(ids, word_of_byte, tf.range(tf.size(ids))),
        )
        made = self._merge_all(symbols, lengths)
        places = tf.cast(tf.reshape(tf.where(made >= 0), [-1]), tf.int32)
        begins = tf.cumsum(lengths, exclusive=True)
        piece_words = tf.gather(word_of_byte, places)
        return WordPieces(
            ids=tf.gather(made, places),
            first_bytes=places - tf.gather(begins, piece_words),
            counts=tf.math.unsorted_segment_sum(tf.ones_like(places), piece_words, tf.size(words)),
        )

    def _merge_all(self, symbols: _Symbols, lengths: tf.Tensor) -> tf.Tensor:
        """Return `<int32>[bytes]`: the final symbol that starts at each byte, or -1."""
        made = tf.fill([tf.size(symbols.ids)], -1)

        def turn(symbols: _Symbols, made: tf.Tensor) -> tuple[_Symbols, tf.Tensor]:
            lowest = tf.math.unsorted_segment_min(symbols.ranks, symbols.words, tf.size(lengths))
            lowest = tf.gather(lowest, symbols.words)
            done = lowest == _NO_MERGE
            made = tf.tensor_scatter_nd_update(
                made, symbols.places[done][:, None], symbols.ids[done]
            )
            lengths_here = tf.gather(lengths, symbols.words)
            merging = self._choose(symbols, lowest, ~done & (lengths_here > _LONG_WORD)) & ~done
            return self._apply(symbols, merging, done), made

        shapes = (_Symbols(*[tf.TensorShape([None])] * 4), tf.TensorShape([None]))
        _, made = tf.while_loop(
            lambda symbols, made: tf.size(symbols.ids) > 0,
            turn,
            (symbols, made),
            shape_invariants=shapes,
        )
        return made

    def _choose(self, symbols: _Symbols, lowest: tf.Tensor, in_long: tf.Tensor) -> tf.Tensor:
        """Return `<bool>[symbols]`: those to merge with their next one in this turn."""
        ranks = symbols.ranks
        chosen = tf.cond(
            tf.reduce_any(in_long),
            lambda: tf.where(in_long, self._lowest_within_reach(ranks), ranks == lowest),
            lambda: ranks == lowest,
        )
        chosen &= ranks != _NO_MERGE
        if self._one_by_one.any():
            chosen &= self._first_of_its_rank(symbols, chosen)
        follows = chosen & _shift_right(chosen, False)
        return tf.cond(tf.reduce_any(follows), lambda: _every_other(chosen), lambda: chosen)

    def _lowest_within_reach(self, ranks: tf.Tensor) -> tf.Tensor:
        left = _minimum_before(ranks, self._reach)
        right = tf.reverse(_minimum_before(tf.reverse(ranks, [0]), self._reach), [0])
        lowest = (ranks <= left) & (ranks <= right)
        if self._one_by_one.any():
            alone = tf.gather(np.append(self._one_by_one, False), _as_index(ranks, self._results))
            lowest &= ~alone | (ranks < left)
        # In "aaaaa" which pairs merge depends on where the run starts, however far that is.
        run_starts = ranks != _shift_right(ranks, -1)
        run = tf.cumsum(tf.cast(run_starts, tf.int32)) - 1
        blocked = tf.cumsum(tf.cast(~lowest, tf.int32))
        before_run = tf.boolean_mask(blocked - tf.cast(~lowest, tf.int32), run_starts)
        return blocked == tf.gather(before_run, run)

    def _first_of_its_rank(self, symbols: _Symbols, chosen: tf.Tensor) -> tf.Tensor:
        """Return `<bool>[symbols]`: false at the later ones where one per turn is the limit."""
        alone = tf.gather(
            np.append(self._one_by_one, False), _as_index(symbols.ranks, self._results)
        )
        same_word = symbols.words == _shift_right(symbols.words, -1)
        word = tf.cumsum(tf.cast(~same_word, tf.int32)) - 1
        earlier = tf.cumsum(tf.cast(chosen, tf.int32), exclusive=True)
        return ~alone | (earlier == tf.gather(tf.boolean_mask(earlier, ~same_word), word))

    def _apply(self, symbols: _Symbols, merging: tf.Tensor, done: tf.Tensor) -> _Symbols:
        """Merge, and drop the words that are done."""
        results = tf.gather(self._results, _as_index(symbols.ranks, self._results))
        swallowed = _shift_right(merging, False)
        kept = tf.reshape(tf.where(~swallowed & ~done), [-1])
        ids = tf.gather(tf.where(merging, results, symbols.ids), kept)
        words = tf.gather(symbols.words, kept)
        merged = tf.gather(merging, kept)
        # Only the pairs on either side of a merged symbol are new.
        changed = merged | tf.concat([merged[1:], merged[:1]], 0)
        changed = tf.cast(tf.reshape(tf.where(changed), [-1]), tf.int32)
        ranks = tf.tensor_scatter_nd_update(
            tf.gather(symbols.ranks, kept),
            changed[:, None],
            self._rank_pairs(ids, words, changed),
        )
        return _Symbols(ids, words, tf.gather(symbols.places, kept), ranks)

    def _rank_pairs(self, ids: tf.Tensor, words: tf.Tensor, lefts: tf.Tensor) -> tf.Tensor:
        """Look up the merges of the symbols at `lefts`, `<int32>[k]`, with their next ones."""
        rights = tf.minimum(lefts + 1, tf.size(ids) - 1)
        same_word = (lefts < rights) & (tf.gather(words, lefts) == tf.gather(words, rights))
        left_ids = tf.cast(tf.gather(ids, lefts), tf.int64)
        keys = left_ids * self._vocabulary_size + tf.cast(tf.gather(ids, rights), tf.int64)
        return self._ranks.lookup(tf.where(same_word, keys, -1))


def _made_into_something_earlier(merges: np.ndarray) -> np.ndarray:
    """Return `<bool>[merges]`: whether a merge of lower rank takes this one's result."""
    rank = np.arange(len(merges))
    first_use = np.full(int(merges.max(initial=0)) + 1, len(merges))
    for side in (0, 1):
        np.minimum.at(first_use, merges[:, side], rank)
    return first_use[merges[:, 2]] <= rank


def _as_index(ranks: tf.Tensor, results: np.ndarray) -> tf.Tensor:
    """Point the pairs that can't be merged at the last entry of a table."""
    return tf.minimum(ranks, len(results) - 1)


def _shift_right(values: tf.Tensor, fill: bool | int) -> tf.Tensor:
    """Return each one's predecessor."""
    return tf.concat([tf.fill([1], tf.constant(fill, values.dtype)), values], 0)[:-1]


def _minimum_before(values: tf.Tensor, distance: int) -> tf.Tensor:
    """Return the least of each one's `distance` or more predecessors."""
    size = tf.size(values)
    least, width = _shift_right(values, _NO_MERGE), 1
    while width < distance:
        shifted = tf.concat([tf.fill([width], _NO_MERGE), least], 0)[:size]
        least, width = tf.minimum(least, shifted), 2 * width
    return least


def _every_other(chosen: tf.Tensor) -> tf.Tensor:
    """Keep the first, third, fifth … of each run of chosen ones: the others overlap them."""
    starts = chosen & ~_shift_right(chosen, False)
    index = tf.range(tf.size(chosen))
    run = tf.maximum(tf.cumsum(tf.cast(starts, tf.int32)) - 1, 0)
    return chosen & ((index - tf.gather(index[starts], run)) % 2 == 0)
