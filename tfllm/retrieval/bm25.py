"""Search by words: BM25."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfllm.errors import InputError

__all__ = ["Bm25"]


class Bm25:
    """Documents by the words that they share with a query, the rare ones above all.

    Words are lower-cased runs of two or more letters and digits, without the commonest of English.
    The same texts give the same answers: of equal scores the earlier document comes first.

    Reference:
        Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009.
        Lù, BM25S, 2024, arXiv:2407.03618.
    """

    def __init__(self, documents: Iterable[str]) -> None:
        """Index documents; their words are in memory, with a score for each document.

        Args:
            documents: at least one with a word.

        Raises:
            InputError: if `bm25s` is not installed, or no document has a word.
        """
        self._library = _bm25s()
        words = self._words(documents)
        self._count = len(words)
        if not any(words):
            raise InputError(
                f"BM25 finds no word in {self._count:,} documents: nothing of two letters or more. "
                "Give documents with text"
            )
        self._index = self._library.BM25()
        self._index.index(words, show_progress=False)

    def __len__(self) -> int:
        """Count the documents."""
        return self._count

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best documents of each query.

        Args:
            queries: texts.
            k: at least 1.

        Returns:
            places `<int64>[queries, k]`, best first, −1 where fewer documents share a word with
            the query; and scores `<float32>[queries, k]`, 0 there.
        """
        places = np.full((len(queries), k), -1, np.int64)
        found = np.zeros((len(queries), k), np.float32)
        for row, words in enumerate(self._words(queries)):
            if not words:
                continue
            scores = self._index.get_scores(words)
            best = _best(scores, k)
            places[row, : len(best)], found[row, : len(best)] = best, scores[best]
        return places, found

    def _words(self, texts: Iterable[str]) -> list[list[str]]:
        return self._library.tokenize(list(texts), return_ids=False, show_progress=False)


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the k largest scores above 0, best first, whatever the ties."""
    least = np.partition(scores, -k)[-k] if k < len(scores) else 0.0
    candidates = np.flatnonzero((scores >= least) & (scores > 0))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise InputError("BM25 needs bm25s. Install it: pip install 'tfllm[retrieval]'") from None
    return bm25s
