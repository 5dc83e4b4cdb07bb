"""One number for each row: how near it comes, and whether it rises where it should."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

__all__ = ["regression"]


def regression(targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Measure predicted numbers, as STS-B and the like are.

    Args:
        targets: `<float>[rows]`.
        scores: `<float>[rows]`, what was predicted.

    Returns:
        `pearson` (of the values), `spearman` (of their ranks, equal ones sharing the mean rank),
        `mean_squared_error`. The correlations are 0 where targets or predictions are all equal
        or not finite, and with fewer than two rows; without rows all are 0. The error of
        predictions that are not finite isn't either.

    Example:
        targets 1 2 3, predicted 1 2 6: pearson 0.945, spearman 1, mean squared error 3.
    """
    from scipy import stats

    targets, scores = np.asarray(targets, np.float64), np.asarray(scores, np.float64)
    return {
        "pearson": _correlation(stats.pearsonr, targets, scores),
        "spearman": _correlation(stats.spearmanr, targets, scores),
        "mean_squared_error": float(np.square(scores - targets).mean()) if len(targets) else 0.0,
    }


def _correlation(of: Any, targets: np.ndarray, scores: np.ndarray) -> float:
    from scipy import stats

    if len(targets) < 2 or not (np.isfinite(targets).all() and np.isfinite(scores).all()):
        return 0.0
    with warnings.catch_warnings():
        # Values that are all equal, or nearly: what comes of them is said above.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        value = float(of(targets, scores).statistic)
    return 0.0 if math.isnan(value) else value
