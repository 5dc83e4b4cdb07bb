"""Which number of a validation decides what is kept, exported, and when patience ends."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["BestMetric"]

_LOWER_IS_BETTER = frozenset({"loss", "perplexity", "bits_per_byte", "mean_squared_error"})


class BestMetric(NamedTuple):
    """A metric by its name, and which way it improves.

    Attributes:
        name: as the validation calls it.
        higher_is_better: False for losses.
    """

    name: str = "loss"
    higher_is_better: bool = False

    @classmethod
    def named(cls, name: str) -> BestMetric:
        """Give the metric of a name: errors fall, everything else rises.

        Example:
            `BestMetric.named("accuracy")` → higher is better; `"perplexity"` → lower is.
        """
        return cls(name, name not in _LOWER_IS_BETTER)

    @property
    def worst(self) -> float:
        """What every number is better than."""
        return -math.inf if self.higher_is_better else math.inf

    def is_better(self, value: float, than: float) -> bool:
        """Compare two values; NaN is better than nothing."""
        return value > than if self.higher_is_better else value < than
