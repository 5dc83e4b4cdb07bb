"""Rows that are windows of one document, put together again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["best_windows", "join_words"]


def join_words(
    values: Sequence[np.ndarray], word_starts: Sequence[np.ndarray], window: np.ndarray
) -> list[np.ndarray]:
    """Give each document one value for each of its words.

    Args:
        values: for each row, `[tokens, …]`.
        word_starts: for each row, `[tokens]`: not 0 on the first token of each word that the row
            scores. Every word is scored in one row only, and rows come in the order of words.
        window: `<int>[rows]`, a row's number among its document's, from 0.

    Returns:
        `[words, …]` for each document.

    Example:
        rows 1 2 3 | 4 5 | 6, starts 1 0 1 | 0 1 | 1, windows 0 | 1 | 0 → 1 3 5 | 6.
    """
    words = [
        np.asarray(row)[np.asarray(starts) != 0]
        for row, starts in zip(values, word_starts, strict=True)
    ]
    first, end = _documents(window)
    return [np.concatenate(words[a:b]) for a, b in zip(first, end, strict=True)]


def best_windows(scores: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Give the row of each document that has the highest score; of equal ones the first.

    Args:
        scores: `<float>[rows]`.
        window: `<int>[rows]`, a row's number among its document's, from 0.

    Returns:
        `<int64>[documents]`.

    Example:
        scores 1 3 3 | 2, windows 0 1 2 | 0 → rows 1 and 3.
    """
    bounds = zip(*_documents(window), strict=True)
    return np.array([a + int(np.argmax(scores[a:b])) for a, b in bounds], np.int64)


def _documents(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of each document, and the one after its last."""
    first = np.flatnonzero(np.asarray(window) == 0)
    return first, np.append(first, len(window))[1:]
