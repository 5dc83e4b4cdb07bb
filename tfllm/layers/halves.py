"""Two halves of the rows at the same time."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["in_halves"]


def in_halves(function: Callable[..., tf.Tensor], *inputs: tf.Tensor) -> tf.Tensor:
    """Apply a function that treats each row alone to the upper and the lower half of the rows.

    The halves depend on nothing of each other, so two threads work on a chain of small operations
    where each operation by itself is too small to be shared out. On a GPU, where each operation
    has all of it, the rows stay together.

    Args:
        function: tensors with as many rows as it got → `[rows, …]`.
        *inputs: `[rows, …]` each; rows may be unknown, and one or none.
    """
    if tf.config.list_logical_devices("GPU"):
        return function(*inputs)
    rows = inputs[0].shape[0] or tf.shape(inputs[0])[0]
    middle = rows // 2
    upper = function(*(tensor[:middle] for tensor in inputs))
    lower = function(*(tensor[middle:] for tensor in inputs))
    return tf.concat([upper, lower], axis=0)
