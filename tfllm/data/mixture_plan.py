"""Which of several sources a step reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfllm.data.permutation import permuted
from tfllm.errors import InputError

__all__ = ["MixturePlan"]


class MixturePlan:
    """Deals steps to sources by weight, in windows.

    Each window of steps holds every source its share of times, exactly, in random order. A
    source's own steps follow one another without a gap.

    Attributes:
        counts: `<int64>[sources]`, steps of each source in a window.
        seed: decides the order within the windows.
    """

    def __init__(self, weights: Sequence[float], *, window: int = 100, seed: int = 0) -> None:
        """Share out a window, by largest remainders.

        Args:
            weights: of the sources, in any unit.
            window: steps.
            seed: decides the order within the windows.

        Raises:
            InputError: if a weight isn't positive, or too small for one step in a window.

        Example:
            weights 1 and 2, a window of 100 → 33 and 67 steps.
        """
        shares = np.asarray(weights, np.float64)
        if not len(shares) or not (np.isfinite(shares).all() and (shares > 0).all()):
            raise InputError(f"weights must be positive numbers. Received: {list(weights)}")
        shares = shares / shares.sum() * window
        self.counts = np.floor(shares).astype(np.int64)
        # Of equal remainders the first come first.
        rest = np.argsort(self.counts - shares, kind="stable")[: window - self.counts.sum()]
        self.counts[rest] += 1
        if self.counts.min() < 1:
            raise InputError(
                f"of the weights {list(weights)}, one is too small for a single step in {window}. "
                "Give it more, or a longer window"
            )
        self.seed = seed
        self._ends = np.cumsum(self.counts)

    @property
    def window(self) -> int:
        """Steps of a window."""
        return int(self._ends[-1])

    def source(self, step: int) -> tuple[int, int]:
        """Give the source of a step, and which of the source's own steps that is.

        Costs what one window costs, whatever the step.

        Args:
            step: counts optimizer steps from 0.
        """
        window, at = divmod(step, self.window)
        places = permuted(np.arange(at + 1), self.window, self.seed, window)
        sources = np.searchsorted(self._ends, places, side="right")
        source = int(sources[at])
        earlier = int((sources[:at] == source).sum())
        return source, window * int(self.counts[source]) + earlier
