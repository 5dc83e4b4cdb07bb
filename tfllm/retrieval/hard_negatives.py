"""Documents that look like an answer to a query, and are none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from tfllm.retrieval.bm25 import Bm25

__all__ = ["mine_hard_negatives"]


def mine_hard_negatives(
    index: Bm25, queries: Sequence[str], relevant: Sequence[Collection[int]], count: int
) -> np.ndarray:
    """Take each query's best documents by BM25, without those that answer it.

    Args:
        index: of all documents.
        queries: texts.
        relevant: places of the documents that answer each query, known as such; never mined.
        count: of each query, at most.

    Returns:
        places `<int64>[queries, count]`, or as many as there are documents; best first, filled up
        with −1 where fewer documents share a word with the query.

    Example:
        query "cat food" with answer 0 among "cat food", "cats eat food", "rain" → 1, −1.

    Reference:
        Karpukhin et al., Dense Passage Retrieval, 2020, arXiv:2004.04906.
    """
    count = min(count, len(index))
    mined = np.full((len(queries), count), -1, np.int64)
    for row, (query, known) in enumerate(zip(queries, relevant, strict=True)):
        places, _ = index.search([query], count + len(known))
        wanted = (places[0] >= 0) & ~np.isin(places[0], list(known))
        negatives = places[0][wanted][:count]
        mined[row, : len(negatives)] = negatives
    return mined
