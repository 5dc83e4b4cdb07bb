"""Write a SavedModel that holds what the signatures need and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfllm.export.errors import ExportError

__all__ = ["save"]


def save(
    signatures: Mapping[str, tf.types.experimental.GenericFunction],
    modules: Sequence[tf.Module],
    folder: Path,
) -> None:
    """Save serving functions with the variables, tables and assets that they read.

    A Keras model is not saved as such: its training functions, optimizer and metadata stay behind.

    Args:
        signatures: name → a `tf.function` with an input signature.
        modules: what tracks everything that the functions read.
        folder: where to write; made if it isn't there.

    Raises:
        ExportError: a function reads something that no module tracks.
    """
    functions = {name: function.get_concrete_function() for name, function in signatures.items()}
    owners = _owners(modules)
    root = tf.Module()
    root.resources = _resources(functions, owners)
    # Gradients are for training on; a bundle is not.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(root, str(folder), signatures=functions, options=options)


def _owners(modules: Sequence[tf.Module]) -> dict[int, Any]:
    """Map the identity of every tensor that stands for saved state to the object that saves it.

    The view goes from the root outwards, so that a table which wraps another comes first.
    """
    owners: dict[int, Any] = {}
    for module in modules:
        for node in tf.train.TrackableView(module).descendants():
            for handle in _handles(node):
                owners.setdefault(id(handle), node)
    return owners


def _handles(node: Any) -> Iterator[tf.Tensor]:
    if isinstance(node, tf.distribute.DistributedValues):
        # One variable per replica; any of them may be the one that was traced.
        yield from (replica.handle for replica in node.values)
    elif isinstance(node, tf.Variable):
        yield node.handle
    elif isinstance(node, tf.saved_model.Asset):
        yield node.asset_path
    elif hasattr(node, "resource_handle"):
        yield node.resource_handle


def _resources(functions: Mapping[str, Any], owners: Mapping[int, Any]) -> list[Any]:
    """List, once each, the owners of what the functions capture; plain constants have none."""
    found = {}
    for name, function in functions.items():
        for tensor in function.captured_inputs:
            owner = owners.get(id(tensor))
            if owner is not None:
                found[id(owner)] = owner
            elif tensor.dtype in (tf.resource, tf.variant):
                raise ExportError(
                    "tracking",
                    "it reads a variable or table that none of the modules tracks: make it an "
                    f"attribute of one ({tensor.name if hasattr(tensor, 'name') else ''})",
                    name,
                )
    return list(found.values())
