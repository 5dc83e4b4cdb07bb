"""The variables of a model and its optimizer as they are at one moment."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["Snapshot"]


class Snapshot:
    """Holds all variables of a compiled model and its optimizer, whatever becomes of them later.

    The values lie in the host's memory. What lies there already is not copied: TensorFlow's
    tensors never change, so an update of a variable that shares its memory with a snapshot goes
    to new memory. A snapshot that is kept through one training step therefore takes as much
    memory as the variables, and takes hardly any time. Of mirrored variables the first copy is
    taken.

    On disk it is one of TensorFlow's tensor bundles, whose names are the paths of attributes from
    the model and the optimizer to the variable. Each tensor has a checksum.

    Attributes:
        step: optimizer steps taken.
    """

    def __init__(self, model: keras.Model) -> None:
        """Take the values that the variables have now.

        Args:
            model: compiled; it and its optimizer are built.
        """
        self.step = int(model.optimizer.iterations.numpy())
        with tf.device("CPU:0"):
            self._values = {
                name: tf.identity(variable.read_value())
                for name, variable in _variables(model).items()
            }

    def write(self, prefix: Path) -> None:
        """Write `PREFIX.index` and `PREFIX.data-…`; other threads may train meanwhile.

        Raises:
            tf.errors.OpError: if the files can't be written.
        """
        names = sorted(self._values)
        with tf.device("CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=str(prefix),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=[self._values[name] for name in names],
            )

    @staticmethod
    def restore(model: keras.Model, prefix: Path) -> None:
        """Give a model and its optimizer the values of files; all of them, or none.

        Args:
            model: as in `__init__`.
            prefix: as `write` was given.

        Raises:
            InputError: if the files are of a model or an optimizer with other variables.
            tf.errors.OpError, ValueError, RuntimeError: if the files are missing or damaged.
        """
        variables = _variables(model)
        _compare(variables, prefix)
        with tf.device("CPU:0"):
            values = tf.raw_ops.RestoreV2(
                prefix=str(prefix),
                tensor_names=list(variables),
                shape_and_slices=[""] * len(variables),
                dtypes=[variable.dtype for variable in variables.values()],
            )
        for variable, value in zip(variables.values(), values, strict=True):
            variable.assign(value)


def _variables(model: keras.Model) -> dict[str, tf.Variable]:
    """All variables, by the shortest path of attributes that leads to each."""
    roots = {"model": model, "optimizer": model.optimizer}
    # Objects, not only their ids: an id is given anew when its object is gone.
    seen: dict[int, Any] = {id(root): root for root in roots.values()}
    waiting: deque[tuple[str, Any]] = deque(roots.items())
    found = {}
    while waiting:
        path, node = waiting.popleft()
        if isinstance(node, tf.Variable):
            found[path] = node
            continue
        for name, child in tf.train.TrackableView.children(node).items():
            if id(child) not in seen:
                seen[id(child)] = child
                waiting.append((f"{path}/{name}", child))
    # Keras's legacy optimizers have slots that no attribute leads to.
    slots = [v for v in model.optimizer.variables() if id(v) not in seen]
    return found | {f"optimizer/slot-{i}": variable for i, variable in enumerate(slots)}


def _compare(variables: dict[str, tf.Variable], prefix: Path) -> None:
    reader = tf.train.load_checkpoint(str(prefix))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    saved = {name: _kind(dtypes[name], shapes[name]) for name in shapes}
    now = {name: _kind(v.dtype, v.shape.as_list()) for name, v in variables.items()}
    for name in sorted(saved.keys() | now.keys()):
        if saved.get(name) != now.get(name):
            raise InputError(
                f"{prefix.parent} was trained with another model or optimizer: its {name} is "
                f"{saved.get(name, 'not there')}, and now it is {now.get(name, 'not there')}. "
                "Give what it was trained with, or a new --run_dir"
            )


def _kind(dtype: tf.DType, shape: list[int]) -> str:
    return f"{dtype.name}{list(shape)}"
