"""Many clients on one preview server: are the answers right, how late, and what does it hold on to.

    python tests/benchmarks/preview_load.py [--seconds 60] [--clients 64]

Clients ask without a pause, texts of mixed lengths, one to four to a request. Every answer is
compared with what the model says by itself. In the middle a new version is moved into place, whose
answers differ, so that it can be told who answered. Then a server with a short queue is asked more
than it can do, and must turn requests away at once with 503.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
WORDS = "the a film of soup was very fine and dull today 今天 🙂 naïve".split()
SLOW_STEPS = 400


def make_bundle(folder: str, scale: str) -> None:
    """Write a text classifier with embeddings, a hidden layer, and a signature that takes long."""
    import tensorflow as tf

    random_values = tf.random.Generator.from_seed(7)

    class Classifier(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = tf.Variable(random_values.normal([4096, 128]))
            self.hidden = tf.Variable(random_values.normal([128, 256]) / 11)
            self.output = tf.Variable(random_values.normal([256, 3]) / 16)
            self.scale = tf.constant(float(scale))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def classify(self, text: Any) -> dict[str, Any]:
            words = tf.strings.split(text)
            ids = tf.strings.to_hash_bucket_fast(words.flat_values, 4096)
            rows = words.with_values(tf.gather(self.words, ids))
            scores = tf.nn.relu(tf.reduce_mean(rows, axis=1) @ self.hidden) @ self.output
            length = tf.strings.length(text)
            return {"scores": tf.ensure_shape(scores * self.scale, [None, 3]), "length": length}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def slow(self, x: Any) -> dict[str, Any]:
            square = tf.eye(256) * tf.reduce_mean(x)
            for _ in tf.range(SLOW_STEPS):
                square = tf.linalg.matmul(square, square) / 2.0
            return {"y": x + tf.reduce_sum(square) * 0.0}

    model = Classifier()
    signatures = {"serving_default": model.classify, "slow": model.slow}
    tf.saved_model.save(model, folder, signatures=signatures)


def texts_of_mixed_lengths(count: int) -> list[str]:
    """Make different texts of one to two hundred words."""
    chosen = random.Random(3)
    lengths = [int(200 ** chosen.random()) for _ in range(count)]
    return [" ".join(chosen.choices(WORDS, k=length)) + f" {i}" for i, length in enumerate(lengths)]


def own_answers(folder: Path, texts: list[str]) -> list[tuple[int, list[float]]]:
    """Ask the model itself, one text at a time."""
    from tfllm.serving import Session

    with Session(folder) as session:
        answers = [session.run("serving_default", {"text": [text]}) for text in texts]
    return [(int(a["length"][0]), a["scores"][0].tolist()) for a in answers]


def is_close(got: Any, wanted: tuple[int, list[float]]) -> bool:
    """Compare one row: a batch of another size may round the last bits otherwise."""
    length, scores = wanted
    return got["length"] == length and all(
        abs(a - b) <= 1e-5 * max(1.0, abs(b)) for a, b in zip(got["scores"], scores, strict=True)
    )


@contextlib.contextmanager
def server(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a preview server; give its process and its URL."""
    command = [sys.executable, "-m", "tfllm.serving.preview", str(folder)]
    command += ["--rest_port", "0", "--grpc_port", "0", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if match := re.search(r"http://[^/]+/v1", line):
                    break
            yield process, match[0]  # type: ignore[index]
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()  # type: ignore[union-attr]
            print(f"  stopped by SIGTERM: exit code {process.wait(60)}")


def kilobytes(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Read a process's memory, and the part of it that is its own and no file's."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+)", status)
    own = re.search(r"RssAnon:\s+(\d+)", status)
    return int(resident[1]), int(own[1])  # type: ignore[index]


class Load:
    """Clients that ask until time is up, and what they saw."""

    def __init__(self, url: str, texts: list[str], wanted: dict[int, Any], seconds: float) -> None:
        self.url = f"{url}/models/classifier:predict"
        self.texts, self.wanted = texts, wanted
        self.end = time.monotonic() + seconds
        self.latencies: list[float] = []
        self.answered = {1: 0, 2: 0}
        self.wrong = 0
        self.failed: list[str] = []

    async def client(self, http: aiohttp.ClientSession, seed: int) -> None:
        chosen = random.Random(seed)
        while time.monotonic() < self.end:
            rows = chosen.choices(range(len(self.texts)), k=chosen.choice([1, 1, 1, 2, 4]))
            start = time.monotonic()
            try:
                body = json.dumps({"instances": [self.texts[row] for row in rows]})
                async with http.post(self.url, data=body) as reply:
                    content = await reply.read()
            except aiohttp.ClientError as error:
                self.failed.append(repr(error))
                continue
            self.latencies.append(time.monotonic() - start)
            if reply.status != 200:
                self.failed.append(f"{reply.status} {content[:200]!r}")
                continue
            self.check(rows, json.loads(content)["predictions"])

    def check(self, rows: list[int], predictions: list[Any]) -> None:
        """Find the version whose answers all of these are."""
        for version, wanted in self.wanted.items():
            if len(predictions) == len(rows) and all(
                is_close(got, wanted[row]) for got, row in zip(predictions, rows, strict=True)
            ):
                self.answered[version] += 1
                return
        self.wrong += 1


async def under_load(arguments: argparse.Namespace, folder: Path, texts: list[str]) -> None:
    """Run the clients, swap the version meanwhile, report."""
    next_version = folder.parent / "next"
    wanted = {
        1: own_answers(folder / "classifier/1", texts),
        2: own_answers(next_version, texts),
    }
    with server(folder) as (process, url):
        load = Load(url, texts, wanted, arguments.seconds)
        limit = aiohttp.TCPConnector(limit=arguments.clients)
        async with aiohttp.ClientSession(connector=limit) as http:
            asking = [
                asyncio.create_task(load.client(http, seed)) for seed in range(arguments.clients)
            ]
            await asyncio.sleep(arguments.seconds * 0.25)
            memory = [kilobytes(process)]
            await asyncio.sleep(arguments.seconds * 0.15)
            memory.append(kilobytes(process))
            os.rename(next_version, folder / "classifier/2")
            while time.monotonic() < load.end:
                await asyncio.sleep(arguments.seconds / 40)
                memory.append(kilobytes(process))
            await asyncio.gather(*asking)
        report(load, arguments.seconds, memory)


def report(load: Load, seconds: float, memory: list[tuple[int, int]]) -> None:
    """Print what was measured."""
    latencies = sorted(load.latencies)
    p50, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    print(f"{len(latencies)} requests in {seconds:g} s: {len(latencies) / seconds:.0f} a second")
    print(f"  p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, slowest {latencies[-1] * 1e3:.1f} ms")
    print(f"  wrong answers {load.wrong}, failed requests {len(load.failed)} {load.failed[:3]}")
    print(f"  answered by version 1: {load.answered[1]}, by version 2: {load.answered[2]}")
    for kind, sizes in zip(
        ("resident memory", "own memory"), zip(*memory, strict=True), strict=True
    ):
        settled = statistics.mean(sizes[len(sizes) // 3 * 2 :])
        print(
            f"  {kind}: {sizes[0] / 1024:.0f} MB at a quarter, {sizes[1] / 1024:.0f} MB before the "
            f"swap, {max(sizes) / 1024:.0f} MB at most, {settled / 1024:.0f} MB in the last third "
            f"({(settled / sizes[0] - 1) * 100:+.1f}%)"
        )


async def overloaded(folder: Path) -> None:
    """Ask a server with a queue of four much at once."""
    flags = ("--max_waiting", "4", "--workers", "1", "--max_batch_rows", "1")
    with server(folder, *flags) as (_, url):
        async with aiohttp.ClientSession() as http:
            outcomes = await asyncio.gather(*[_slow_request(http, url) for _ in range(40)])
    busy = sorted(seconds for status, seconds in outcomes if status == 503)
    done = sorted(seconds for status, seconds in outcomes if status == 200)
    others = [status for status, _ in outcomes if status not in (200, 503)]
    print(f"overload: 40 at once, {len(done)} answered, {len(busy)} turned away, others {others}")
    print(f"  503 after {max(busy) * 1e3:.0f} ms at most; an answer took {done[0] * 1e3:.0f} ms")


async def _slow_request(http: aiohttp.ClientSession, url: str) -> tuple[int, float]:
    start = time.monotonic()
    body = '{"signature_name": "slow", "instances": [1.0]}'
    async with http.post(f"{url}/models/classifier:predict", data=body) as reply:
        await reply.read()
        return reply.status, time.monotonic() - start


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_bundle(*arguments.make)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bundles"
        for bundle, scale in ((folder / "classifier/1", "1"), (Path(name) / "next", "2")):
            command = [sys.executable, __file__, "--make", str(bundle), scale]
            subprocess.run(command, check=True)
        asyncio.run(under_load(arguments, folder, texts_of_mixed_lengths(300)))
        asyncio.run(overloaded(folder))


if __name__ == "__main__":
    main()
