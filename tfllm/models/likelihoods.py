"""How likely a model finds texts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Likelihoods"]


class Likelihoods(NamedTuple):
    """Log-likelihoods of texts and of their tokens, in nats.

    Attributes:
        tokens: for each text those of its tokens, `<float32>[tokens]`, each given all before it;
            without that of a row's first id, which nothing stands before.
        texts: their sums, `<float64>[texts]`.
        counts: how many tokens each sum is of, `<int64>[texts]`.
    """

    tokens: list[np.ndarray]
    texts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, tokens: list[np.ndarray]) -> Likelihoods:
        """Add up the tokens of each text."""
        sums = np.array([row.sum(dtype=np.float64) for row in tokens], np.float64)
        return cls(tokens, sums, np.array([len(row) for row in tokens], np.int64))

    @property
    def perplexities(self) -> np.ndarray:
        """`exp(-mean log-likelihood)` of each text, `<float64>[texts]`; NaN where none counts."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.exp(-self.texts / self.counts)

    @property
    def perplexity(self) -> float:
        """That of all tokens together; NaN where there are none."""
        total = int(self.counts.sum())
        return math.exp(-float(self.texts.sum()) / total) if total else math.nan
