"""Embeddings for another vocabulary, made of the rows that are there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["embedding_rows"]


def embedding_rows(table: np.ndarray, sources: Sequence[Sequence[int]], seed: int) -> np.ndarray:
    """Make a table's rows as means of an old table's rows.

    Args:
        table: `<float32>[old words, dims]`.
        sources: for each new word the old rows whose mean it is; a word without any is drawn from
            the normal distribution with the old rows' mean and covariance's diagonal.
        seed: decides what is drawn.

    Returns:
        `<float32>[new words, dims]`.

    Reference:
        Hewitt, Initializing New Word Embeddings for Pretrained Language Models, 2021.
    """
    rng = np.random.default_rng(seed)
    mean, spread = table.mean(axis=0), table.std(axis=0)
    rows = np.empty([len(sources), table.shape[1]], table.dtype)
    for word, pieces in enumerate(sources):
        if len(pieces) == 1:
            rows[word] = table[pieces[0]]
        elif pieces:
            rows[word] = table[list(pieces)].mean(axis=0)
        else:
            rows[word] = rng.normal(mean, spread)
    return rows
