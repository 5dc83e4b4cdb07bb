"""Where the tokens of two texts and the special tokens around them lie in rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.pair_plan import Pairs
from tfllm.data.ranges import expand

__all__ = ["PairLayout", "lay_out_pairs"]


class PairLayout(NamedTuple):
    """Rows one after another, without padding.

    Attributes:
        lengths: `<int64>[rows]`, tokens of each, special ones included.
        source: `<int64>[text tokens]`, where each stands in the store.
        place: `<int64>[text tokens]`, where it goes among the rows' tokens.
        special: `<int64>[tokens]`, ids of special tokens; anything on text.
        types: `<int64>[tokens]`, token types.
    """

    lengths: np.ndarray
    source: np.ndarray
    place: np.ndarray
    special: np.ndarray
    types: np.ndarray

    def put(self, values: np.ndarray, others: np.ndarray | int) -> np.ndarray:
        """Lay out one value a token of text, `<int64>[tokens]`, and others on special tokens."""
        laid = np.zeros(len(self.types), np.int64)
        laid[:] = others
        laid[self.place] = values
        return laid


def lay_out_pairs(pairs: Pairs, single: RowTemplate, pair: RowTemplate) -> PairLayout:
    """Put special tokens around the texts of each row.

    Args:
        pairs: the texts.
        single: for rows with one.
        pair: for rows with two.
    """
    lengths = pairs.lengths.sum(axis=1) + np.where(pairs.are_pairs, pair.added, single.added)
    first = np.cumsum(lengths) - lengths
    special, types = np.zeros((2, int(lengths.sum())), np.int64)
    text_starts = np.zeros_like(pairs.lengths)
    for template, chosen in ((single, ~pairs.are_pairs), (pair, pairs.are_pairs)):
        at = first[chosen].copy()
        for gap, (ids, gap_types) in enumerate(zip(template.gaps, template.gap_types, strict=True)):
            for token, token_type in zip(ids, gap_types, strict=True):
                special[at], types[at] = token, token_type
                at += 1
            if gap < len(template.types):
                text_starts[chosen, gap] = at
                at += pairs.lengths[chosen, gap]
    text, source = expand(pairs.starts.ravel(), (pairs.starts + pairs.lengths).ravel())
    place = source - pairs.starts.ravel()[text] + text_starts.ravel()[text]
    # A lone text is of the first type in both templates.
    types[place] = np.array(pair.types)[text % 2]
    return PairLayout(lengths, source, place, special, types)
