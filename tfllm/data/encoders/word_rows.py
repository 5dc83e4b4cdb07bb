"""Rows of words, laid out all at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfllm.data.encoders.ragged import Ragged
from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.ranges import expand

__all__ = ["WordRows", "lay_out_words"]


class WordRows(NamedTuple):
    """Rows of tokens, and where words begin in them.

    Attributes:
        ids: special tokens included.
        places: `<int64>[n]`: of each word that is scored, its first token among all tokens.
        words: `<int64>[n]`: numbers of those words.
    """

    ids: Ragged
    places: np.ndarray
    words: np.ndarray


def lay_out_words(
    windows: np.ndarray, kinds: np.ndarray, pieces: Ragged, template: RowTemplate
) -> WordRows:
    """Write each window's words between special tokens.

    Args:
        windows: `<int64>[rows, 4]`: first word, word after the last, first scored one, word after
            the last scored one; words are numbered through all documents.
        kinds: `<int64>[words]`: which of the different words each word is.
        pieces: ids of each of the different words, as they are stored.
        template: of one sequence.
    """
    first, end, scored_first, scored_end = windows.T
    sizes = pieces.lengths[kinds]
    before = np.concatenate([[0], np.cumsum(sizes)])
    lengths = before[end] - before[first] + template.added
    starts = np.cumsum(lengths) - lengths
    ids = np.empty(int(lengths.sum()), pieces.values.dtype)
    _write_special_tokens(ids, starts, starts + lengths, template)

    row, word = expand(first, end)
    place = starts[row] + template.start() + before[word] - before[first[row]]
    source = (np.cumsum(pieces.lengths) - pieces.lengths)[kinds[word]]
    written, piece = expand(source, source + sizes[word])
    ids[place[written] + piece - source[written]] = pieces.values[piece]
    scored = (word >= scored_first[row]) & (word < scored_end[row])
    return WordRows(Ragged(ids, lengths), place[scored], word[scored])


def _write_special_tokens(
    ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, template: RowTemplate
) -> None:
    before, after = template.gaps
    for place, token in enumerate(before):
        ids[starts + place] = token
    for place, token in enumerate(reversed(after), 1):
        ids[ends - place] = token
