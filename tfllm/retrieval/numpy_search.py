"""Exact search by vectors, in NumPy."""

from __future__ import annotations

import numpy as np

__all__ = ["exact_search"]

# Scores that are in memory at once: 64 MiB.
_SCORES = 1 << 24


def exact_search(
    queries: np.ndarray, documents: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k documents with the largest dot products.

    Args:
        queries: `<float32>[queries, width]`.
        documents: `<float32>[documents, width]`, memory-mapped or not.
        k: all documents where there are fewer.

    Returns:
        places `<int64>[queries, k]`, best first, of equal scores the earlier document; and scores
        `<float32>[queries, k]`.
    """
    k = min(k, len(documents))
    block = max(1, _SCORES // max(1, len(documents)))
    places = np.empty((len(queries), k), np.int64)
    found = np.empty((len(queries), k), np.float32)
    for first in range(0, len(queries), block):
        scores = queries[first : first + block] @ documents.T
        for row, of_query in enumerate(scores, first):
            least = np.partition(of_query, -k)[-k]
            candidates = np.flatnonzero(of_query >= least)
            best = candidates[np.argsort(-of_query[candidates], kind="stable")][:k]
            places[row], found[row] = best, of_query[best]
    return places, found
