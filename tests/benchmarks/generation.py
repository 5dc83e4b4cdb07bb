"""Greedy decoding of GPT-2 124M (random weights) beside PyTorch and transformers' TF `generate`.

    python tests/benchmarks/generation.py --torch_python /path/to/python     # about 10 minutes
    python tests/benchmarks/generation.py --rows 8 --rounds 3 --candidates tfllm torch
    python tests/benchmarks/generation.py --profile                    # where a token's time goes

Each candidate is a process of its own that takes turns; while one works the others wait. A turn is
one batch: prompts of 32 tokens, 64 new ones, none ends early. Of each, the first turn is not
counted. `memory` reads as many bytes as the weights have with all cores, 64 times over: at batch
1 nobody decodes faster than that. `mixed` is `tfllm` with prompts of 1 to 32 tokens.

PyTorch lives in an environment of its own (`pip install torch transformers`), since transformers
behaves otherwise where torch is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORDS, PROMPT, NEW = 50_257, 32, 64
CANDIDATES = ("tfllm", "mixed", "torch", "transformers", "memory")

Turn = Callable[[int], Any]  # rows → anything


def prompts(rows: int) -> Any:
    import numpy as np

    return np.random.default_rng(rows).integers(0, WORDS, (rows, PROMPT))


def tfllm_turn(config: dict[str, Any]) -> Turn:
    """`CausalLM.generate` in one graph for any batch and any lengths."""
    generate = tfllm_function(config)

    def turn(rows: int) -> Any:
        import tensorflow as tf

        return generate(tf.ragged.constant(prompts(rows), dtype=tf.int32)).to_tensor().numpy()

    return turn


def mixed_turn(config: dict[str, Any]) -> Turn:
    """The same with prompts of different lengths, of which one has all tokens."""
    generate = tfllm_function(config)

    def turn(rows: int) -> Any:
        import tensorflow as tf

        ids = [row[-(PROMPT - i * PROMPT // rows) :] for i, row in enumerate(prompts(rows))]
        return generate(tf.ragged.constant(ids, dtype=tf.int32)).to_tensor().numpy()

    return turn


def tfllm_function(config: dict[str, Any]) -> Any:
    import tensorflow as tf
    from transformers import GPT2Config

    from tfllm.models import CausalLM

    model = CausalLM.from_config(GPT2Config(**config))

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def generate(ids: tf.RaggedTensor) -> tf.RaggedTensor:
        return model.generate(ids, max_new_tokens=NEW)

    generate.model = model  # the function alone does not hold it
    return generate


def transformers_turn(config: dict[str, Any]) -> Turn:
    """Transformers' TF `generate` in graph, batch unknown."""
    import tensorflow as tf
    from transformers import GPT2Config, TFGPT2LMHeadModel

    model = TFGPT2LMHeadModel(GPT2Config(**config))
    model.build_in_name_scope()
    _never_end(model)
    spec = tf.TensorSpec([None, PROMPT], tf.int32)

    @tf.function(input_signature=[spec, spec])
    def generate(ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False)

    def turn(rows: int) -> Any:
        ids = prompts(rows).astype("int32")
        return generate(ids, tf.ones_like(ids)).numpy()[:, PROMPT:]

    return turn


def torch_turn(config: dict[str, Any]) -> Turn:
    """PyTorch's `generate`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = GPT2LMHeadModel(GPT2Config(**config)).eval()
    _never_end(model)

    def turn(rows: int) -> Any:
        ids = torch.from_numpy(prompts(rows))
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False
            )
        return found.numpy()[:, PROMPT:]

    return turn


def memory_turn(config: dict[str, Any]) -> Turn:
    """Read what a token reads of the weights: all matrices, the tied table once."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    width, layers = config.get("n_embd", 768), config.get("n_layer", 12)
    numbers = WORDS * width + 12 * layers * width * width
    cores = len(os.sched_getaffinity(0))
    parts = np.array_split(np.ones(numbers // 2, np.float64), cores)
    pool = ThreadPoolExecutor(cores)

    def turn(rows: int) -> Any:
        del rows
        for _ in range(NEW):
            list(pool.map(_read, parts))
        return np.zeros([1, NEW])

    return turn


def _read(part: Any) -> float:
    import numpy as np

    return float(np.dot(part, part))  # BLAS reads as fast as a core can


def _never_end(model: Any) -> None:
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0


def serve(candidate: str, config: str) -> None:
    """Do a turn for each line of the standard input, a number of rows; print its seconds."""
    turn = globals()[f"{candidate}_turn"](json.loads(config))
    for line in sys.stdin:
        start = time.perf_counter()
        found = turn(int(line))
        seconds = time.perf_counter() - start
        assert found.shape[1] == NEW, found.shape
        print(json.dumps(seconds), flush=True)


def start(candidate: str, python: str, config: dict[str, Any]) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    cores = str(len(os.sched_getaffinity(0)))
    if candidate == "memory":  # it has threads of its own
        cores = "1"
    environment |= {"OMP_NUM_THREADS": cores, "OPENBLAS_NUM_THREADS": cores}
    command = [python, __file__, "--part", candidate, json.dumps(config)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)


def turn(worker: subprocess.Popen[str], rows: int) -> float:
    """Let one worker work; its seconds."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(f"{rows}\n")
    worker.stdin.flush()
    return float(json.loads(worker.stdout.readline()))


def measure(given: argparse.Namespace) -> None:
    """Print tokens a second of each candidate, and the median of its rounds' ratios to ours."""
    config = {"vocab_size": WORDS, "n_layer": given.layers}
    pythons = {name: sys.executable for name in given.candidates}
    pythons["torch"] = given.torch_python
    workers = {name: start(name, pythons[name], config) for name in given.candidates}
    try:
        for rows in given.rows:
            rounds = [
                {name: turn(worker, rows) for name, worker in workers.items()}
                for _ in range(given.rounds + 1)
            ][1:]
            report(rows, rounds)
    finally:
        for worker in workers.values():
            worker.communicate()


def report(rows: int, rounds: list[dict[str, float]]) -> None:
    print(f"\nbatch {rows}\n| | s | tokens/s | tfllm is |\n|---|---|---|---|", flush=True)
    for name in rounds[0]:
        seconds = statistics.median(found[name] for found in rounds)
        ratio = statistics.median(found[name] / found["tfllm"] for found in rounds)
        # Memory is read once for all rows.
        tokens = f"{rows * NEW / seconds:.1f}"
        print(f"| {name} | {seconds:.2f} | {tokens} | {ratio:.2f}× |", flush=True)


def profile(given: argparse.Namespace) -> None:
    """Print how long each kind of operation takes for one token, and how often it runs."""
    given_turn = tfllm_turn({"vocab_size": WORDS, "n_layer": given.layers})
    for rows in given.rows:
        given_turn(rows)
        times, counts = times_of(lambda rows=rows: given_turn(rows))
        total = sum(times.values())
        print(f"\nbatch {rows}: {1e3 * total / NEW:.2f} ms a token in operations, of these:")
        for kind, seconds in times.most_common(25):
            each = f"{1e3 * seconds / NEW:8.3f} ms  {seconds / total:5.1%}"
            print(f"{each}  {counts[kind] / NEW:6.1f} x {kind}")


def times_of(work: Callable[[], Any]) -> tuple[Counter[str], Counter[str]]:
    """Seconds that each kind of operation takes, and how often it runs."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    times: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        work()
        tf.profiler.experimental.stop()
        (written,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(written.read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            # "name:Kind"; other events are functions and threads.
            name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if "CPU" in plane.name and name and not kind.startswith(" "):
                times[kind] += 1e-12 * event.duration_ps
                counts[kind] += 1
    return times, counts


def main() -> None:
    """Be a worker, or measure."""
    if sys.argv[1:2] == ["--part"]:
        return serve(*sys.argv[2:])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--torch_python", help="Python of an environment with torch")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if given.candidates is None:
        given.candidates = [name for name in CANDIDATES if name != "torch" or given.torch_python]
    if given.profile:
        sys.path.insert(0, str(ROOT))
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        return profile(given)
    given.torch_python = given.torch_python or sys.executable
    measure(given)


if __name__ == "__main__":
    main()
