"""Megabytes a second of one tokenizer in graph and of Hugging Face's, taking turns.

    python tests/benchmarks/tokenizers_speed.py gpt2 wikitext-2

Each is a process of its own, held to the same core; while one works the other waits. The first
turn of each, which builds graphs and fills Hugging Face's cache, is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tokenizers_texts import ROOT, ours, speed_texts, theirs

sys.path.insert(0, str(ROOT))
ROWS_OF_A_BATCH = 1024


class Speeds(NamedTuple):
    """Medians, in megabytes a second."""

    ours: float
    theirs: float


def speeds(name: str, texts: str, repeats: int = 5) -> Speeds:
    """Measure both in turn."""
    core = max(os.sched_getaffinity(0))
    workers = [_start(part, name, texts, core) for part in WORKERS]
    try:
        turns = [[_turn(worker) for worker in workers] for _ in range(1 + repeats)]
    finally:
        for worker in workers:
            worker.communicate()
    megabytes = sum(len(text.encode()) for text in speed_texts(texts)) / 1e6
    return Speeds(*(megabytes / statistics.median(t) for t in zip(*turns[1:], strict=True)))


def _start(part: str, name: str, texts: str, core: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--part", part, name, texts, str(core)]
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)


def _turn(worker: subprocess.Popen[str]) -> float:
    """Let one worker work; give its seconds."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def _graph(name: str, batches: list[list[str]]) -> Callable[[], None]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tokenizer = ours(name)
    tensors = [tf.constant([text.encode() for text in batch]) for batch in batches]

    def work() -> None:
        for tensor in tensors:
            tokenizer.tokenize(tensor)

    return work


def _hugging_face(name: str, batches: list[list[str]]) -> Callable[[], None]:
    tokenizer = theirs(name)

    def work() -> None:
        for batch in batches:
            tokenizer.encode_batch_fast(batch, add_special_tokens=False)

    return work


WORKERS = {"graph": _graph, "hugging_face": _hugging_face}


def serve(part: str, name: str, texts: str, core: str) -> None:
    """Do all the work once for each line of the standard input; print the seconds."""
    os.sched_setaffinity(0, {int(core)})
    rows = speed_texts(texts)
    batches = [rows[i : i + ROWS_OF_A_BATCH] for i in range(0, len(rows), ROWS_OF_A_BATCH)]
    work = WORKERS[part](name, batches)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


def main() -> None:
    """Be a worker, or measure."""
    if sys.argv[1] == "--part":
        serve(*sys.argv[2:])
    else:
        print(speeds(*sys.argv[1:]))


if __name__ == "__main__":
    main()
