"""The model in memory: what its serving functions take, and what they answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from tfllm.export.answer_checks import check_answers
from tfllm.export.errors import ExportError
from tfllm.export.probes import AWKWARD_TEXTS, Case, batches

__all__ = ["answered_cases", "check_fresh"]

# A language model writes for minutes where a classifier answers in seconds: so long is asked of one
# signature. Every batch size is asked at least once.
_SECONDS = 6.0
_AT_LEAST = 3


def answered_cases(
    signatures: Mapping[str, tf.types.experimental.GenericFunction],
    probes: Mapping[str, Mapping[str, Sequence[Any]]],
) -> list[Case]:
    """Ask every serving function its probes.

    Raises:
        ValueError: a signature lacks probes, or has some that don't fit it.
        ExportError: an input's first dimension is not the batch.
    """
    unknown = probes.keys() - signatures.keys()
    if unknown:
        raise ValueError(f"probes must be for given signatures. Received: {sorted(unknown)}")
    cases = []
    for name, function in signatures.items():
        end = time.monotonic() + _SECONDS
        for i, request in enumerate(batches(_columns(name, function, probes))):
            if i >= _AT_LEAST and time.monotonic() > end:
                break
            cases.append(_answered(name, function, request))
    return cases


def check_fresh(
    traced: Mapping[str, tf.types.experimental.GenericFunction],
    cases: Sequence[Case],
    tolerance: float,
) -> None:
    """Refuse functions that were traced before the model changed.

    A trace keeps what Python computed while it ran: a weight that was read as a number, a layer
    that was replaced since. A fresh trace then answers otherwise than the one to be saved.

    Args:
        traced: those of the signatures that had been traced before the export began.
        cases: all signatures' requests, with the answers of the functions as they are.
        tolerance: as in the gate.

    Raises:
        ExportError: a function is stale.
    """
    for name, function in traced.items():
        again = tf.function(
            function.python_function,
            input_signature=function.input_signature,
            autograph=getattr(function, "_autograph", True),
        )
        own = (case for case in cases if case.signature == name)
        for case in itertools.islice(own, 1):
            request = {key: column.tolist() for key, column in case.inputs.items()}
            answers = _answered(name, again, request).answers
            try:
                check_answers(case, answers, tolerance)
            except ExportError as error:
                raise ExportError(
                    "stale",
                    "the model's weights or layers changed after this function was traced; call "
                    f"signatures() again and export what it gives ({error.message})",
                    name,
                    error.request,
                ) from error


def _specs(function: tf.types.experimental.GenericFunction) -> list[tf.TensorSpec]:
    """List the inputs in the order of the function's parameters, with a signature's names."""
    positional, named = function.get_concrete_function().structured_input_signature
    # TensorFlow makes these names lower-case; those that were given are the bundle's.
    given = getattr(function, "input_signature", None) or ()
    names = [spec.name for spec in given] + [None] * len(positional)
    return [
        *(
            tf.TensorSpec(spec.shape, spec.dtype, name or spec.name)
            for spec, name in zip(positional, names, strict=False)
        ),
        *named.values(),
    ]


def _columns(
    name: str,
    function: tf.types.experimental.GenericFunction,
    probes: Mapping[str, Mapping[str, Sequence[Any]]],
) -> Mapping[str, Sequence[Any]]:
    specs = _specs(function)
    for spec in specs:
        if not spec.shape.rank or spec.shape[0] is not None:
            message = f"input {spec.name!r} is {spec}: its first dimension must be unknown"
            raise ExportError("signature", message, name)
    only_text = len(specs) == 1 and specs[0].dtype == tf.string and specs[0].shape.rank == 1
    if name not in probes and only_text:
        return {specs[0].name: AWKWARD_TEXTS}
    columns = probes.get(name, {})
    wanted = {spec.name for spec in specs}
    if columns.keys() != wanted or not all(len(column) for column in columns.values()):
        raise ValueError(
            f"probes of {name!r} must hold rows for each of its inputs {sorted(wanted)}. "
            f"Received: {sorted(columns)}"
        )
    return columns


def _answered(
    name: str, function: tf.types.experimental.GenericFunction, request: Mapping[str, list[Any]]
) -> Case:
    inputs = {spec.name: _array(request[spec.name], spec.dtype) for spec in _specs(function)}
    with _on_cpu():
        tensors = [tf.convert_to_tensor(array) for array in inputs.values()]
        outputs = function(*tensors)
    if not isinstance(outputs, Mapping):
        raise ValueError(
            f"signature {name!r} must return a dict of named outputs. Received: {type(outputs)}"
        )
    # Of a single text NumPy makes no array.
    answers = {key: np.asarray(output.numpy(), output.dtype.as_numpy_dtype)
               for key, output in outputs.items()}  # fmt: skip
    return Case(name, inputs, answers)


def _array(rows: list[Any], dtype: tf.DType) -> np.ndarray:
    if dtype != tf.string:
        return np.array(rows, dtype=dtype.as_numpy_dtype)
    # By way of object: NumPy's own strings lose trailing NULs.
    texts = np.array(rows, dtype=object)
    flat = [text.encode() if isinstance(text, str) else text for text in texts.ravel()]
    encoded = np.empty(len(flat), dtype=object)
    encoded[:] = flat
    return encoded.reshape(texts.shape)


def _on_cpu() -> AbstractContextManager[object]:
    """Compute where the bundle's session computes: a GPU rounds otherwise (TF32, bfloat16)."""
    return tf.device("/CPU:0") if tf.config.list_logical_devices("GPU") else nullcontext()
