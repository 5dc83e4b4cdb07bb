"""Weights that lie in the bundle in half precision, and are computed with in float32.

The bundle's checkpoint holds the halves. When the server loads it, its init op casts them into
float32 variables, which the graph reads, and frees the halves. So requests take the time, and the
loaded model the memory, that they take without; the bundle is half as large on disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError

__all__ = ["Widened", "captured_weights", "rounded"]

# Vectors, norms' scales and biases, are small, and their rounding would be felt.
_LEAST_NUMBERS = 1024


class Widened(tf.saved_model.experimental.TrackableResource):
    """Stands for a float32 variable in a SavedModel, and fills it from halves when that is loaded.

    Args:
        variable: which the saved functions read.
        dtype: of what is stored.

    Attributes:
        stored: the halves, to be tracked beside this.
    """

    def __init__(self, variable: tf.Variable, dtype: tf.DType) -> None:
        """Take the place of the variable's handle."""
        super().__init__()
        self._resource_handle = variable.handle
        self._shape = variable.shape
        self.stored = tf.Variable(tf.cast(variable, dtype), trainable=False)

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=self._shape, shared_name=f"widened_{id(self)}"
        )

    def _initialize(self) -> None:
        whole = tf.cast(self.stored.read_value(), tf.float32)
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=whole)
        tf.raw_ops.DestroyResourceOp(resource=self.stored.handle)


def captured_weights(
    signatures: Mapping[str, tf.types.experimental.GenericFunction], owners: Mapping[int, Any]
) -> list[tf.Variable]:
    """List the matrices that the functions read, once each.

    Args:
        signatures: name → function.
        owners: identity of a captured tensor → what it belongs to.
    """
    found: dict[int, tf.Variable] = {}
    for function in signatures.values():
        for tensor in function.get_concrete_function().captured_inputs:
            owner = owners.get(id(tensor))
            if is_weight(owner):
                found[id(owner)] = owner
    return list(found.values())


def is_weight(owner: Any) -> bool:
    """Whether something is a variable worth storing in half precision."""
    return (
        isinstance(owner, tf.Variable)
        and not isinstance(owner, tf.distribute.DistributedValues)
        and owner.dtype == tf.float32
        and owner.shape.rank >= 2
        and owner.shape.num_elements() >= _LEAST_NUMBERS
    )


@contextlib.contextmanager
def rounded(variables: Sequence[tf.Variable], dtype: tf.DType) -> Iterator[None]:
    """Give variables the values that their halves will have, and their own again at the end.

    Raises:
        InputError: if a weight is too large for the type.
    """
    originals = [variable.numpy() for variable in variables]
    try:
        for variable, original in zip(variables, originals, strict=True):
            halves = tf.cast(tf.cast(original, dtype), tf.float32)
            if not np.isfinite(halves.numpy()).all():
                raise InputError(
                    f"{variable.name} holds {np.abs(original).max():.3g}, which {dtype.name} "
                    "can't: store the weights as bfloat16 or float32"
                )
            variable.assign(halves)
        yield
    finally:
        for variable, original in zip(variables, originals, strict=True):
            variable.assign(original)
