"""Sentences of a grammar, chosen by number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfllm.data.permutation import permuted

__all__ = ["fillings"]


def fillings(slots: Mapping[str, Sequence[str]], count: int, seed: int) -> Iterator[dict[str, str]]:
    """Fill slots in different ways, no two of them the same.

    All ways are numbered, and a random permutation of the numbers gives the first ones.

    Args:
        slots: name → what may stand there, all together below 2⁶³ ways.
        count: how many; fewer if there are fewer ways.
        seed: decides which.
    """
    sizes = [len(options) for options in slots.values()]
    ways = math.prod(sizes)
    numbers = permuted(np.arange(min(count, ways)), ways, seed, 0)
    for choice in np.stack(np.unravel_index(numbers, sizes), axis=1):
        yield {name: slots[name][place] for name, place in zip(slots, choice, strict=True)}
