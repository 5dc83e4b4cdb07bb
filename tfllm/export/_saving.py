"""Write a SavedModel that holds what the signatures need and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfllm.export._half_storage import Widened, captured_weights, is_weight, rounded
from tfllm.export.errors import ExportError

__all__ = ["save", "stored_as"]


def save(
    signatures: Mapping[str, tf.types.experimental.GenericFunction],
    modules: Sequence[tf.Module],
    folder: Path,
    storage: str = "float32",
) -> None:
    """Save serving functions with the variables, tables and assets that they read.

    A Keras model is not saved as such: its training functions, optimizer and metadata stay behind.

    Args:
        signatures: name → a `tf.function` with an input signature.
        modules: what tracks everything that the functions read.
        folder: where to write; made if it isn't there.
        storage: of matrices in float32: what they are stored as.

    Raises:
        ExportError: a function reads something that no module tracks, or a file that is gone.
    """
    functions = {name: function.get_concrete_function() for name, function in signatures.items()}
    resources = _resources(functions, _owners(modules))
    _check_assets(resources)
    root = tf.Module()
    if storage != "float32":
        dtype = tf.as_dtype(storage)
        resources = [Widened(r, dtype) if is_weight(r) else r for r in resources]
        root.stored = [r.stored for r in resources if isinstance(r, Widened)]
    root.resources = resources
    # Gradients are for training on; a bundle is not.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(root, str(folder), signatures=functions, options=options)


def stored_as(
    storage: str,
    signatures: Mapping[str, tf.types.experimental.GenericFunction],
    modules: Sequence[tf.Module],
) -> AbstractContextManager[None]:
    """Round the weights in memory, for a while, as `save` will store them."""
    if storage == "float32":
        return nullcontext()
    return rounded(captured_weights(signatures, _owners(modules)), tf.as_dtype(storage))


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


def _check_assets(resources: Sequence[Any]) -> None:
    """See that the files which tables read are still there, to be copied."""
    module = tf.Module()  # the view holds it weakly
    module.resources = list(resources)
    for asset in tf.train.TrackableView(module).descendants():
        if isinstance(asset, tf.saved_model.Asset):
            path = asset.asset_path.numpy().decode()
            if not tf.io.gfile.exists(path):
                raise ExportError("asset", f"the file {path}, which a table reads, is gone")


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
