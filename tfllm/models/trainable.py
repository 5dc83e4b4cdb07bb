"""How much of a model trains."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

__all__ = ["TrainableShare", "trainable_share"]


class TrainableShare(NamedTuple):
    """Numbers of parameters; printed, one line.

    Example:
        >>> print(TrainableShare(trainable=294_912, total=124_734_720))
        294,912 of 124,734,720 parameters train (0.236%)
    """

    trainable: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.trainable / max(1, self.total)

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.trainable:,} of {self.total:,} parameters train ({100 * self.share:.3g}%)"


def trainable_share(model: Any) -> TrainableShare:
    """Count the parameters of a layer or a model, and those of them that train."""
    return TrainableShare(_count(model.trainable_weights), _count(model.weights))


def _count(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
