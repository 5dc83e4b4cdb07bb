"""The gate that a bundle passes before it is published.

`prove` starts it in a process of its own, because one that has imported TensorFlow's Python can't
tell: there, Python kernels and XLA work that the server hasn't got. That process loads the bundle
as TensorFlow Serving does and checks, in this order, that

- it loads;
- its graph and functions hold only ops that the server has, may run, and may run concurrently;
- its signatures can be asked over REST and be batched;
- it answers every case as the model in memory did.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.export.errors import ExportError
from tfllm.export.probes import Case
from tfllm.serving.errors import SessionError
from tfllm.serving.session import Node, Session, registered_ops
from tfllm.serving.signature import Signature

__all__ = ["check_bundle", "prove"]

_REFUSED = 3

_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"}
_RANDOM_OPS = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomCrop",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RngReadAndSkip",
    "RngSkip",
    "StatefulRandomBinomial",
    "StatefulStandardNormal",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StatefulUniformFullInt",
    "StatefulUniformInt",
    "TruncatedNormal",
}
_WRITING_OPS = ("Assign", "ResourceScatter", "ResourceStridedSliceAssign", "ResourceApply")
_RESTORE = "__inference__traced_restore"
_GROWING_TABLES = ("AnonymousMutable", "MutableDenseHashTable", "MutableHashTable")

# What the server reads from JSON, and what it can write that every client understands.
_INPUT_TYPES = {"float32", "float64", "int32", "int64", "bool", "string"}
_OUTPUT_TYPES = {"float32", "int32", "int64", "bool", "string"}


def prove(folder: Path, cases: Sequence[Case], tolerance: float) -> None:
    """Check a saved bundle in a fresh process, without TensorFlow's Python.

    Args:
        folder: holds `saved_model.pb` and `variables/`.
        cases: requests with the in-memory model's answers.
        tolerance: largest difference between floats, absolute up to 1 and relative beyond.

    Raises:
        ExportError: a check refused the bundle, or it brought the process down.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tfllm.export.gate", str(folder)],
        input=pickle.dumps((cases, tolerance)),
        capture_output=True,
        env=_environment(),
        check=False,
    )
    if done.returncode == _REFUSED:
        raise ExportError(**json.loads(done.stdout))
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise ExportError("crash", f"the gate ended with status {done.returncode}: {said}")


def _environment() -> dict[str, str]:
    """Find this very tfllm, see no GPU, and take over no switch of XLA."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    return environment


def check_bundle(folder: Path, cases: Sequence[Case], tolerance: float) -> None:
    """Run every check in this process, which must not have imported TensorFlow.

    Raises:
        ExportError: a check refused the bundle.
        RuntimeError: TensorFlow's Python is here, so the checks would prove nothing.
    """
    if "tensorflow" in sys.modules:
        raise RuntimeError("the gate needs a process that has not imported TensorFlow")
    try:
        session = Session(folder)
    except SessionError as error:
        raise ExportError("load", str(error)) from error
    with session:
        _check_graph(session)
        for name, signature in session.signatures.items():
            _check_signature(name, signature)
        for case in cases:
            _check_case(session, case, tolerance)


def _check_graph(session: Session) -> None:
    known = registered_ops()
    functions = {node.function for node in session.nodes()}
    for node in session.nodes():
        reason = _reason_against(node, known | functions)
        if reason:
            place = f"function {node.function!r}" if node.function else "the main graph"
            raise ExportError("graph", f"op {node.op} ({node.name!r} in {place}) {reason}")


def _reason_against(node: Node, known: frozenset[str]) -> str:
    if node.op in _PYTHON_OPS:
        return "runs Python, which the server hasn't got: every call would fail"
    if node.must_compile:
        return "must be compiled (jit_compile=True), and the server has XLA off"
    if node.op.startswith("Xla"):
        return "belongs to XLA, which the server has off"
    if node.op in _RANDOM_OPS:
        return "draws from hidden state: use tf.random.stateless_* with a seed from the request"
    if node.op.startswith(_GROWING_TABLES):
        return "is a table that requests change: use tf.lookup.StaticHashTable"
    # Signatures call functions; what the main graph itself writes is written once, at loading.
    served = node.function and not node.function.startswith(_RESTORE)
    if served and node.op.startswith(_WRITING_OPS):
        return "writes a variable, which concurrent requests share: keep state inside the call"
    if node.op not in known:
        return "is neither TensorFlow's nor TF Text's: the server doesn't know it"
    return ""


def _check_signature(name: str, signature: Signature) -> None:
    tensors = [
        *(("input", key, spec, _INPUT_TYPES) for key, spec in signature.inputs.items()),
        *(("output", key, spec, _OUTPUT_TYPES) for key, spec in signature.outputs.items()),
    ]
    if not signature.outputs:
        raise ExportError("signature", "it has no outputs", name)
    for kind, key, spec, types in tensors:
        if spec.dtype not in types:
            message = f"{kind} {key!r} is {spec}: its type must be one of {sorted(types)}"
            raise ExportError("signature", message, name)
        if not spec.shape or spec.shape[0] is not None:
            message = f"{kind} {key!r} is {spec}: its first dimension must be the batch, unknown"
            raise ExportError("signature", message, name)


def _check_case(session: Session, case: Case, tolerance: float) -> None:
    request = _shortened(case.inputs)
    try:
        answers = session.run(case.signature, case.inputs)
    except SessionError as error:
        raise ExportError("answers", str(error), case.signature, request) from error
    if answers.keys() != case.answers.keys():
        message = f"outputs are {sorted(answers)}, in memory {sorted(case.answers)}"
        raise ExportError("answers", message, case.signature, request)
    rows = len(next(iter(case.inputs.values())))
    for name, answer in answers.items():
        difference = _difference(answer, case.answers[name], tolerance)
        if len(answer) != rows:
            difference = f"has {len(answer)} rows for a batch of {rows}"
        if difference:
            raise ExportError("answers", f"{name!r} {difference}", case.signature, request)


def _difference(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
    """Say where an answer differs from the model in memory; empty where it doesn't."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        return f"is {got.dtype}{list(got.shape)}, in memory {wanted.dtype}{list(wanted.shape)}"
    if got.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # inf - inf
            close = np.abs(got - wanted) <= tolerance * np.maximum(1, np.abs(wanted))
        same = close & np.isfinite(wanted) | (got == wanted) | np.isnan(got) & np.isnan(wanted)
    else:
        same = got == wanted
    if np.all(same):
        return ""
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"at {list(index)} is {got[index]!r}, in memory {wanted[index]!r}"


def _shortened(inputs: Mapping[str, np.ndarray]) -> str:
    text = ", ".join(f"{name}={_listed(array)}" for name, array in inputs.items())
    return text if len(text) <= 300 else text[:297] + "..."


def _listed(array: np.ndarray) -> str:
    return repr([item[:60] if isinstance(item, bytes) else item for item in array.tolist()])


def _main(folder: str) -> int:
    cases, tolerance = pickle.load(sys.stdin.buffer)
    try:
        check_bundle(Path(folder), cases, tolerance)
    except ExportError as error:
        reply: dict[str, Any] = {
            "check": error.check,
            "message": error.message,
            "signature": error.signature,
            "request": error.request,
        }
        print(json.dumps(reply))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
