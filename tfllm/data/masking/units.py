"""What is masked together: tokens, words, or spans of words."""

from __future__ import annotations

import numpy as np

from tfllm.data.random_bits import random_bits, uniform

__all__ = ["span_units", "word_units"]


def word_units(words: np.ndarray) -> np.ndarray:
    """Where a word begins among tokens that can be masked, `<bool>[tokens]`.

    Args:
        words: `<int64>[tokens]`, number of each token's word, never falling.
    """
    return np.diff(words, prepend=-1) != 0


def span_units(
    begins: np.ndarray,
    places: np.ndarray,
    pieces: np.ndarray,
    rows: np.ndarray,
    *,
    max_words: int,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Tile each row's words with spans of 1 to `max_words`, of n words as likely as 1 / n.

    Args:
        begins: `<bool>[tokens]`, where a word begins.
        places: `<int64>[tokens]`, in the batch; a gap (a special token) ends a span.
        pieces: `<int64>[tokens]`, which row a token is of, from 0 in the batch.
        rows: `<int64>[rows]`, their numbers, from which the lengths are drawn.
        max_words: of a span.
        seed: see `random_bits`.
        epoch: see `random_bits`.

    Returns:
        where a span begins, `<bool>[tokens]`.

    Example:
        words a b c d e, lengths drawn 2 1 3 … → spans a b, c, d e.

    Reference:
        Lan et al., ALBERT, 2019, arXiv:1909.11942 (the lengths); Joshi et al., SpanBERT, 2020,
        arXiv:1907.10529 (spans of whole words).
    """
    first = np.flatnonzero(begins)
    piece = pieces[first]
    counts = np.bincount(piece, minlength=len(rows))
    before = np.cumsum(counts) - counts
    number = np.arange(len(first)) - before[piece]
    # As many lengths as words: more than enough, since none is 0.
    drawn = _lengths(random_bits("span", seed, epoch, rows[piece], number), max_words)
    end = np.cumsum(drawn)
    begin = end - drawn - (end - drawn)[before[piece]]
    inside = begin < counts[piece]
    spans = np.zeros(len(begins), bool)
    spans[first[before[piece[inside]] + begin[inside]]] = True
    spans[np.diff(places, prepend=-2) != 1] = True
    return spans & begins


def _lengths(bits: np.ndarray, most: int) -> np.ndarray:
    shares = 1 / np.arange(1, most + 1)
    limits = np.cumsum(shares / shares.sum())[:-1]
    return 1 + np.searchsorted(limits, uniform(bits), side="right")
