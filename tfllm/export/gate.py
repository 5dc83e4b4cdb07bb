"""The gate that a bundle passes before it is published.

`prove` starts it in a process of its own, because one that has imported TensorFlow's Python can't
tell: there, Python kernels and XLA work that the server hasn't got. That process loads the bundle
as TensorFlow Serving does and checks, in this order, that

- it loads;
- its graph and functions hold only ops that the server has, may run, and may run concurrently;
- its signatures can be asked over REST and be batched;
- it answers every case as the model in memory did, in numbers that JSON can carry;
- no row's answer depends on the rows beside it;
- it stays as it is over a thousand short calls.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.export.answer_checks import Neighbours, check_answers, request_text
from tfllm.export.errors import ExportError
from tfllm.export.op_rules import reason_against
from tfllm.export.probes import Case
from tfllm.export.state_checks import check_state
from tfllm.serving.errors import SessionError
from tfllm.serving.session import Session, registered_ops
from tfllm.serving.signature import Signature

__all__ = ["Proof", "check_bundle", "prove"]

_REFUSED = 3

# What the server reads from JSON, and what it can write that every client understands.
_INPUT_TYPES = {"float32", "float64", "int32", "int64", "bool", "string"}
_OUTPUT_TYPES = {"float32", "int32", "int64", "bool", "string"}


@dataclasses.dataclass(frozen=True)
class Proof:
    """What the gate found of a bundle that it let through.

    Attributes:
        load_seconds: from the process's first look at the folder to a loaded session.
        seconds: the whole gate, its process's start included.
        requests: compared with the model in memory; the warm-up's are only run.
        calls: made to see that nothing changes or grows.
        ops: every op of the graph and its functions.
        examples: signature → `{"inputs": {name: value}, "outputs": {name: value}}`, one row that
            the bundle was really asked, and what it answered.
    """

    load_seconds: float
    seconds: float
    requests: int
    calls: int
    ops: Sequence[str]
    examples: Mapping[str, Any]


def prove(folder: Path, cases: Sequence[Case], tolerance: float) -> Proof:
    """Check a saved bundle in a fresh process, without TensorFlow's Python.

    Args:
        folder: holds `saved_model.pb` and `variables/`.
        cases: requests with the in-memory model's answers.
        tolerance: largest difference between floats, absolute up to 1 and relative beyond.

    Raises:
        ExportError: a check refused the bundle, or it brought the process down.
    """
    start = time.perf_counter()
    request = {"cases": [case.to_json() for case in cases], "tolerance": tolerance}
    done = subprocess.run(
        [sys.executable, "-m", "tfllm.export.gate", str(folder)],
        input=json.dumps(request).encode(),
        capture_output=True,
        env=_environment(),
        check=False,
    )
    if done.returncode == _REFUSED:
        raise ExportError(**json.loads(done.stdout))
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise ExportError("crash", f"the gate ended with status {done.returncode}: {said}")
    found = Proof(**json.loads(done.stdout))
    return dataclasses.replace(found, seconds=time.perf_counter() - start)


def _environment() -> dict[str, str]:
    """Find this very tfllm, see no GPU, and take over no switch of XLA."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    return environment


def check_bundle(folder: Path, cases: Sequence[Case], tolerance: float) -> Proof:
    """Run every check in this process, which must not have imported TensorFlow.

    Raises:
        ExportError: a check refused the bundle.
        RuntimeError: TensorFlow's Python is here, so the checks would prove nothing.
    """
    if "tensorflow" in sys.modules:
        raise RuntimeError("the gate needs a process that has not imported TensorFlow")
    start = time.perf_counter()
    try:
        session = Session(folder)
    except SessionError as error:
        raise ExportError("load", str(error)) from error
    load_seconds = time.perf_counter() - start
    with session:
        ops = _check_graph(session)
        for name, signature in session.signatures.items():
            _check_signature(name, signature)
        asked = _check_cases(session, cases, tolerance)
        calls = check_state(session, cases)
        examples = _examples(session, cases, asked)
    seconds = time.perf_counter() - start
    compared = sum(bool(case.answers) for case in cases)
    return Proof(load_seconds, seconds, compared, calls, ops, examples)


def _check_graph(session: Session) -> list[str]:
    """Look at every node; give the ops that there are."""
    known = registered_ops()
    functions = {node.function for node in session.nodes()}
    for node in session.nodes():
        reason = reason_against(node, known | functions)
        if reason:
            place = f"function {node.function!r}" if node.function else "the main graph"
            raise ExportError("graph", f"op {node.op} ({node.name!r} in {place}) {reason}")
    return sorted({node.op for node in session.nodes()} & known)


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


def _check_cases(session: Session, cases: Sequence[Case], tolerance: float) -> list[Case]:
    """Compare all answers; give the requests of one row with what the bundle answered."""
    neighbours, asked = Neighbours(tolerance), []
    for case in cases:
        try:
            answers = session.run(case.signature, case.inputs)
        except SessionError as error:
            request = request_text(case.inputs)
            raise ExportError("answers", str(error), case.signature, request) from error
        if case.answers:  # a request of the warm-up has none: the server only asks that it runs
            check_answers(case, answers, tolerance)
            neighbours.check(case, answers)
        if len(next(iter(case.inputs.values()))) == 1:
            asked.append(Case(case.signature, case.inputs, answers))
    return asked


def _examples(
    session: Session, cases: Sequence[Case], asked: Sequence[Case]
) -> dict[str, dict[str, Any]]:
    """Give each signature's answer to one row alone, a readable one where there is one.

    What was asked already is not asked again: long texts take a language model seconds.
    """
    chosen: dict[str, Case] = {}
    rows = itertools.chain.from_iterable(map(_rows, cases))
    for case in itertools.chain(asked, rows):
        if case.signature not in chosen or (
            _is_readable(case.inputs) and not _is_readable(chosen[case.signature].inputs)
        ):
            chosen[case.signature] = case
    examples = {}
    for signature, case in chosen.items():
        outputs = case.answers or session.run(signature, case.inputs)
        examples[signature] = {
            kind: {name: _json_value(column[0]) for name, column in named.items()}
            for kind, named in (("inputs", case.inputs), ("outputs", outputs))
        }
    return examples


def _rows(case: Case) -> Iterator[Case]:
    """Take a request apart, without its answers."""
    for row in range(len(next(iter(case.inputs.values())))):
        inputs = {name: column[row : row + 1] for name, column in case.inputs.items()}
        yield Case(case.signature, inputs, {})


def _is_readable(inputs: Mapping[str, np.ndarray]) -> bool:
    cells = [cell for column in inputs.values() for cell in column.ravel()]
    texts = [cell.decode(errors="replace") for cell in cells if isinstance(cell, bytes)]
    return all(0 < len(text) <= 100 and text.isprintable() and text.isascii() for text in texts)


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_json_value(item) for item in value]
    if value.dtype == np.float32:  # the fewest digits that read back as the same float32
        return np.asarray(value).astype(str).astype(np.float64).tolist()
    return value.tolist()


def _main(folder: str) -> int:
    request = json.load(sys.stdin.buffer)
    cases = [Case.from_json(case) for case in request["cases"]]
    try:
        proof = check_bundle(Path(folder), cases, request["tolerance"])
    except ExportError as error:
        reply: dict[str, Any] = {
            "check": error.check,
            "message": error.message,
            "signature": error.signature,
            "request": error.request,
        }
        print(json.dumps(reply))
        return _REFUSED
    print(json.dumps(dataclasses.asdict(proof)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
