"""Documents of words, cut into overlapping windows that score each word once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

__all__ = ["WordWindow", "word_windows"]


class WordWindow(NamedTuple):
    """Some words of a document, one after another.

    Attributes:
        first: word with which it begins.
        end: word after its last.
        scored_first: first of the words that are scored in it.
        scored_end: the word after the last of them.
    """

    first: int
    end: int
    scored_first: int
    scored_end: int


def word_windows(sizes: Sequence[int], room: int, overlap: int) -> list[WordWindow]:
    """Cut a document.

    Each word is scored in one window: the one where the fewer of the tokens on its two sides are
    most; of equal ones the first.

    Args:
        sizes: tokens of each word, at least 1 and at most `room`.
        room: tokens of a window.
        overlap: tokens at most that a window shares with the one before, fewer where the next
            word needs the room; below `room`.

    Example:
        six words of one token, room 4, overlap 2 → words 0 to 3, of which 0 to 2 are scored, and
        words 2 to 5, of which 3 to 5 are.
    """
    before = [0, *accumulate(sizes)]
    if before[-1] <= room:
        return [WordWindow(0, len(sizes), 0, len(sizes))]
    spans = _spans(before, room, overlap)
    scored = [0, *(_border(before, *pair) for pair in zip(spans, spans[1:], strict=False))]
    ends = [*scored[1:], len(sizes)]
    return [
        WordWindow(*span, *part)
        for span, part in zip(spans, zip(scored, ends, strict=True), strict=True)
    ]


def _spans(before: list[int], room: int, overlap: int) -> list[tuple[int, int]]:
    """First word and word after the last of each window."""
    words = len(before) - 1
    spans = []
    first = end = 0
    while True:
        while end < words and before[end + 1] - before[first] <= room:
            end += 1
        spans.append((first, end))
        if end == words:
            return spans
        # As much as may be shared, but the next word must fit in.
        while before[end] - before[first] > overlap or before[end + 1] - before[first] > room:
            first += 1


def _border(before: list[int], window: tuple[int, int], after: tuple[int, int]) -> int:
    """The first word that has more context in the second of two windows."""
    (_, end), (first, _) = window, after
    for word in range(first, end):
        if before[word] - before[first] > before[end] - before[word + 1]:
            return word
    return end
