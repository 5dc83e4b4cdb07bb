"""Which example each row of a store was made of."""

from __future__ import annotations

import numpy as np

from tfllm.data.array_store import ArrayStore

__all__ = ["example_numbers"]


def example_numbers(store: ArrayStore) -> np.ndarray:
    """Count the examples that a store's rows were made of.

    Args:
        store: of an encoder that cuts an example into windows and numbers them in the column
            `window`; of any other, where each example is one row.

    Returns:
        `<int64>[rows]`, numbers in the order of the examples, from 0.

    Example:
        windows 0 0 1 2 0 → examples 0 1 1 1 2.
    """
    if "window" not in store.manifest.columns:
        return np.arange(len(store))
    return np.cumsum(store.values("window") == 0) - 1
