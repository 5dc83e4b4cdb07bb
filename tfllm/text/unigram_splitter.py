"""Unigram splits of many words at once, to the last bit those of `tokenizers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfllm.text.sentencepiece_pieces import Pieces
from tfllm.text.sentencepiece_text import shift_right

__all__ = ["UnigramSplitter"]

_CODE_POINTS = 0x110000
_UNKNOWN_PENALTY = 10.0
# Twice the rounding of a sum and of its rival, both as they are here and as they may be there.
_ROUNDING = 2.0**-50
_NEVER = np.float64(-np.inf)


class _Edges(NamedTuple):
    """Places where a vocabulary piece, or an unknown code point, stands: `[edges]` each."""

    starts: tf.Tensor
    """`<int32>`: first code point, counted over all words."""
    lengths: tf.Tensor
    """`<int32>`: number of code points."""
    ids: tf.Tensor
    """`<int32>`."""
    scores: tf.Tensor
    """`<float64>`."""

    def where(self, kept: tf.Tensor) -> _Edges:
        return _Edges(*[tf.boolean_mask(values, kept) for values in self])


class _Stretches(NamedTuple):
    """Runs of code points that are split by themselves, in order."""

    begins: tf.Tensor
    """`<int32>[stretches]`: first code point of each."""
    lengths: tf.Tensor
    """`<int32>[stretches]`."""


class _Splits(NamedTuple):
    """The best split of some stretches."""

    ids: tf.Tensor
    """`<int32>[code points]`: id of the piece that starts at each, or -1."""
    margins: tf.Tensor
    """`<float64>[stretches]`: by how much, at least, each choice was won."""


class UnigramSplitter(tf.Module):
    """Splits words into the pieces with the highest sum of scores: `<string>[words]` → ids.

    It is the Viterbi algorithm, for all words at once: turn `t` of a loop finds the best split of
    every word's first `t` code points. Sums are float64, added from the left, and of equal ones
    the one whose last piece is longest wins, so that splits are `tokenizers`' even where two
    differ by rounding only. What the vocabulary doesn't know is as good as its worst piece less
    10, for each code point; such code points in a row are one piece.

    A word is cut where no piece could stand across, and its parts are split side by side: a
    thousand ideographs take as many turns as the longest chain of pieces that overlap. The sums
    of later parts then lack what stands before. A part in which that could matter, because a
    choice was won by no more than rounding, has its word split again as a whole.

    Args:
        pieces: text and score of each id. Of equal texts the last counts.
        unknown_id: id of what the vocabulary doesn't know.
    """

    def __init__(self, pieces: Sequence[tuple[str, float]], unknown_id: int) -> None:
        """Build a trie of the pieces."""
        super().__init__(name="unigram_splitter")
        scores = np.array([score for _, score in pieces])
        self._unknown_id = unknown_id
        self._unknown_score = float(scores.min()) - _UNKNOWN_PENALTY
        self._greatest = float(np.abs([*scores, self._unknown_score]).max())
        self._longest = max(len(text) for text, _ in pieces)
        ids = {text: i for i, (text, _) in enumerate(pieces)}
        keys, nodes = _trie(ids)
        self._ids = np.array([ids.get(prefix, -1) for prefix in nodes], np.int32)
        self._scores = scores
        self._children = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(keys), tf.range(1, len(keys) + 1, dtype=tf.int32)
            ),
            default_value=-1,
        )

    def split(self, words: tf.Tensor) -> Pieces:
        """Split `<string>[words]`, none of them empty."""
        decoded = tf.strings.unicode_decode(words, "UTF-8")
        code_points, owners = decoded.flat_values, tf.cast(decoded.value_rowids(), tf.int32)
        whole = _Stretches(
            tf.cast(decoded.row_starts(), tf.int32), tf.cast(decoded.row_lengths(), tf.int32)
        )
        edges = self._find_edges(code_points, tf.cast(decoded.row_limits(), tf.int32), owners)
        ids = self._best_ids(edges, whole, owners)
        return self._fuse(ids, owners, whole)

    # ---------------------------------------------------------------- where pieces stand

    def _find_edges(self, code_points: tf.Tensor, limits: tf.Tensor, owners: tf.Tensor) -> _Edges:
        """Walk down the trie from every code point at once."""
        count = tf.size(code_points)
        limits = tf.gather(limits, owners)
        none = tf.zeros([0], tf.int32)

        def descend(
            depth: tf.Tensor, places: tf.Tensor, nodes: tf.Tensor, *found: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            nexts = tf.gather(code_points, tf.minimum(places + depth, count - 1))
            keys = tf.cast(nodes, tf.int64) * _CODE_POINTS + tf.cast(nexts, tf.int64)
            within = places + depth < tf.gather(limits, places)
            nodes = self._children.lookup(tf.where(within, keys, -1))
            alive = nodes >= 0
            places, nodes = tf.boolean_mask(places, alive), tf.boolean_mask(nodes, alive)
            ids = tf.gather(tf.constant(self._ids), nodes)
            ends = ids >= 0
            starts, ids = tf.boolean_mask(places, ends), tf.boolean_mask(ids, ends)
            here = (starts, tf.fill([tf.size(starts)], depth + 1), ids)
            both = [tf.concat(pair, 0) for pair in zip(found, here, strict=True)]
            return depth + 1, places, nodes, *both

        open_ended = tf.TensorShape([None])
        _, _, _, starts, lengths, ids = tf.while_loop(
            lambda depth, places, *rest: tf.size(places) > 0,
            descend,
            (0, tf.range(count), tf.zeros([count], tf.int32), none, none, none),
            shape_invariants=(tf.TensorShape([]), *[open_ended] * 5),
            maximum_iterations=self._longest,
        )
        scores = tf.gather(tf.constant(self._scores), ids)
        return self._with_unknown(_Edges(starts, lengths, ids, scores), count)

    def _with_unknown(self, edges: _Edges, count: tf.Tensor) -> _Edges:
        """Add an edge wherever no piece of one code point stands."""
        singles = tf.boolean_mask(edges.starts, edges.lengths == 1)
        known = tf.scatter_nd(singles[:, None], tf.ones_like(singles), [count]) > 0
        places = tf.cast(tf.reshape(tf.where(~known), [-1]), tf.int32)
        unknown = _Edges(
            places,
            tf.ones_like(places),
            tf.fill([tf.size(places)], self._unknown_id),
            tf.fill([tf.size(places)], tf.constant(self._unknown_score, tf.float64)),
        )
        return _Edges(*[tf.concat(pair, 0) for pair in zip(edges, unknown, strict=True)])

    # ---------------------------------------------------------------- the best split

    def _best_ids(self, edges: _Edges, whole: _Stretches, owners: tf.Tensor) -> tf.Tensor:
        """Return `<int32>[code points]`: id of the piece that starts at each, or -1."""
        count = tf.size(owners)
        word_starts = owners != shift_right(owners, -1)
        parts = _stretches(_cuts(edges, count) | word_starts)
        splits = _best_splits(edges, parts, count)
        part_owners = tf.gather(owners, parts.begins)
        later = ~tf.gather(word_starts, parts.begins)
        sizes = tf.cast(parts.lengths, tf.float64) * tf.cast(
            tf.gather(whole.lengths, part_owners), tf.float64
        )
        doubtful = later & (splits.margins <= sizes * (self._greatest * _ROUNDING))
        return tf.cond(
            tf.reduce_any(doubtful),
            lambda: self._best_ids_of_whole(
                edges, whole, owners, splits.ids, tf.boolean_mask(part_owners, doubtful)
            ),
            lambda: splits.ids,
        )

    def _best_ids_of_whole(
        self,
        edges: _Edges,
        whole: _Stretches,
        owners: tf.Tensor,
        ids: tf.Tensor,
        doubtful: tf.Tensor,
    ) -> tf.Tensor:
        again = tf.scatter_nd(doubtful[:, None], tf.ones_like(doubtful), tf.shape(whole.begins)) > 0
        some = edges.where(tf.gather(again, tf.gather(owners, edges.starts)))
        stretches = _Stretches(*[tf.boolean_mask(values, again) for values in whole])
        splits = _best_splits(some, stretches, tf.size(owners))
        return tf.where(tf.gather(again, owners), splits.ids, ids)

    def _fuse(self, ids: tf.Tensor, owners: tf.Tensor, whole: _Stretches) -> Pieces:
        """List the pieces; unknown code points in a row are one."""
        places = tf.cast(tf.reshape(tf.where(ids >= 0), [-1]), tf.int32)
        ids, owners = tf.gather(ids, places), tf.gather(owners, places)
        same = (ids == shift_right(ids, -1)) & (owners == shift_right(owners, -1))
        kept = ~(same & (ids == self._unknown_id))
        places, ids, owners = (tf.boolean_mask(values, kept) for values in (places, ids, owners))
        begins = tf.gather(whole.begins, owners)
        end = tf.reduce_sum(whole.lengths)
        nexts = tf.concat([places[1:], [end]], 0)[: tf.size(places)]
        counts = tf.math.unsorted_segment_sum(tf.ones_like(owners), owners, tf.size(whole.begins))
        return Pieces(ids, places - begins, nexts - 1 - begins, counts)


def _trie(ids: dict[str, int]) -> tuple[np.ndarray, list[str]]:
    """Return a key for each prefix, made of its parent and its last code point; and prefixes."""
    nodes = {"": 0}
    keys = []
    for text in ids:
        for end in range(1, len(text) + 1):
            if text[:end] not in nodes:
                keys.append(nodes[text[: end - 1]] * _CODE_POINTS + ord(text[end - 1]))
                nodes[text[:end]] = len(nodes)
    return np.array(keys, np.int64), list(nodes)


def _cuts(edges: _Edges, count: tf.Tensor) -> tf.Tensor:
    """Return `<bool>[code points]`: whether no edge reaches over from before."""
    change = tf.zeros([count + 1], tf.int32)
    ones = tf.ones_like(edges.starts)
    change = tf.tensor_scatter_nd_add(change, edges.starts[:, None] + 1, ones)
    change = tf.tensor_scatter_nd_add(change, (edges.starts + edges.lengths)[:, None], -ones)
    return tf.cumsum(change)[:-1] == 0


def _stretches(starts: tf.Tensor) -> _Stretches:
    begins = tf.cast(tf.reshape(tf.where(starts), [-1]), tf.int32)
    ends = tf.concat([begins[1:], [tf.size(starts)]], 0)[: tf.size(begins)]
    return _Stretches(begins, ends - begins)


def _best_splits(edges: _Edges, stretches: _Stretches, count: tf.Tensor) -> _Splits:
    """Split the stretches; the edges are those within them.

    Nodes are the places between code points. They are numbered by how far they are into their
    stretch, and then by stretch, longest first: so turn `t` makes nodes `[offsets[t],
    offsets[t + 1])` of earlier ones.
    """
    order = tf.argsort(stretches.lengths, direction="DESCENDING", stable=True)
    lengths = tf.gather(stretches.lengths, order)
    turns = tf.reduce_max(tf.concat([lengths, [0]], 0))
    total = tf.size(lengths)
    reaching = total - tf.searchsorted(tf.reverse(lengths, [0]), tf.range(turns + 1))
    offsets = tf.concat([[0], tf.cumsum(reaching)], 0)

    rank, into = _places(stretches, order, count)
    edge_rank, edge_into = tf.gather(rank, edges.starts), tf.gather(into, edges.starts)
    froms = tf.gather(offsets, edge_into) + edge_rank
    tos = tf.gather(offsets, edge_into + edges.lengths) + edge_rank
    nodes = tf.cast(offsets[-1], tf.int64)
    by_target = tf.argsort(tf.cast(tos, tf.int64) * nodes + tf.cast(froms, tf.int64))
    froms, tos = tf.gather(froms, by_target), tf.gather(tos, by_target)
    scores = tf.gather(edges.scores, by_target)
    longest = tf.reduce_max(tf.concat([edges.lengths, [1]], 0))
    winners, margins = _viterbi(froms, tos, scores, offsets, longest)
    ends = tf.gather(offsets, lengths) + tf.range(total)
    chosen = _on_best_path(tf.gather(froms, winners), ends)
    picked = tf.gather(by_target, tf.boolean_mask(winners, chosen))
    ids = tf.tensor_scatter_nd_update(
        tf.fill([count], -1),
        tf.gather(edges.starts, picked)[:, None],
        tf.gather(edges.ids, picked),
    )
    # Node → rank → place in the given order.
    levels = tf.repeat(tf.range(turns + 1), reaching)[total:]
    ranks = tf.range(total, offsets[-1]) - tf.gather(offsets, levels)
    least = tf.math.unsorted_segment_min(margins, ranks, total)
    return _Splits(ids, tf.scatter_nd(order[:, None], least, [total]))


def _places(
    stretches: _Stretches, order: tf.Tensor, count: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return `<int32>[code points]` twice: rank of each one's stretch, and how far it is into it.

    What is in no stretch gets any.
    """
    starts = tf.scatter_nd(stretches.begins[:, None], tf.ones_like(stretches.begins), [count])
    stretch = tf.maximum(tf.cumsum(starts) - 1, 0)
    ranks = tf.scatter_nd(order[:, None], tf.range(tf.size(order)), tf.shape(order))
    return tf.gather(ranks, stretch), tf.range(count) - tf.gather(stretches.begins, stretch)


def _viterbi(
    froms: tf.Tensor, tos: tf.Tensor, scores: tf.Tensor, offsets: tf.Tensor, longest: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Find the best edge into each node.

    Args:
        froms: `<int32>[edges]`.
        tos: `<int32>[edges]`, not decreasing; of the same target, `froms` increases.
        scores: `<float64>[edges]`.
        offsets: `<int32>[turns + 2]`: first node of each turn; turn 0 are the beginnings.
        longest: over how many turns an edge may reach.

    Returns:
        `<int32>[nodes]` and `<float64>[nodes]`, beginnings left out: place of the edge, and by how
        much it beat the next best one.
    """
    turns = tf.size(offsets) - 2
    bounds = tf.searchsorted(tos, offsets[1:])

    def turn(
        t: tf.Tensor, best: tf.Tensor, winners: tf.TensorArray, margins: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        low, high = bounds[t - 1], bounds[t]
        base = offsets[tf.maximum(t - longest, 0)]
        sums = scores[low:high] + tf.gather(best, froms[low:high] - base)
        target = tos[low:high] - offsets[t]
        highest = tf.math.segment_max(sums, target)
        index = tf.range(high - low)
        is_highest = sums == tf.gather(highest, target)
        first = tf.math.segment_min(tf.where(is_highest, index, high - low), target)
        rivals = tf.where(index == tf.gather(first, target), _NEVER, sums)
        margin = highest - tf.math.segment_max(rivals, target)
        outdated = offsets[tf.maximum(t + 1 - longest, 0)] - base
        return (
            t + 1,
            tf.concat([best, highest], 0)[outdated:],
            winners.write(t - 1, low + first),
            margins.write(t - 1, margin),
        )

    winners = tf.TensorArray(tf.int32, turns, infer_shape=False, element_shape=[None])
    margins = tf.TensorArray(tf.float64, turns, infer_shape=False, element_shape=[None])
    _, _, winners, margins = tf.while_loop(
        lambda t, *rest: t <= turns,
        turn,
        (1, tf.zeros([offsets[1]], tf.float64), winners, margins),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None]),
            tf.TensorShape(None),
            tf.TensorShape(None),
        ),
    )
    return winners.concat(), margins.concat()


def _on_best_path(back: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Return `<bool>[nodes]`: which nodes, beginnings left out, lie on the way back from `ends`.

    Args:
        back: `<int32>[nodes]`, beginnings left out: the node before each.
        ends: `<int32>[stretches]`: last node of each stretch.
    """
    total = tf.size(ends)
    jump = tf.concat([tf.range(total), back], 0)
    kept = tf.scatter_nd(ends[:, None], tf.ones_like(ends), tf.shape(jump)) > 0

    def double(kept: tf.Tensor, jump: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """From all that are k steps away or less to all that are 2k or less."""
        reached = tf.boolean_mask(jump, kept)
        yes = tf.ones_like(reached, tf.bool)
        kept = tf.tensor_scatter_nd_update(kept, reached[:, None], yes)
        return kept, tf.gather(jump, jump)

    kept, _ = tf.while_loop(
        lambda kept, jump: tf.reduce_any(jump >= total),
        double,
        (kept, jump),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
    )
    return kept[total:]
