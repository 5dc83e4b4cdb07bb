"""Which tokens are masked, and what stands there instead."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["MaskedTokens"]


class MaskedTokens(NamedTuple):
    """Some of a batch's tokens, in their order.

    Attributes:
        places: `<int64>[masked]`, rising, among all tokens of the batch.
        ids: `<int64>[masked]`, what is read there: the mask, a random word, or what stood there.
    """

    places: np.ndarray
    ids: np.ndarray
