"""Runs killed −9 twenty times; and how long training stands still for a checkpoint.

    python tests/benchmarks/kill.py                        # both, about a quarter of an hour
    python tests/benchmarks/kill.py kills --kills 20 --devices 1 2 --models network
    python tests/benchmarks/kill.py standstill --mib 500

Of the kills a few come at the moments where they are worst, the rest at random ones; files of
checkpoints are compared byte by byte with those of a run that nobody killed. Times are medians of
rounds that alternate; on a shared machine only their ratios mean something.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LAYERS, STEPS_BESIDE = 10, 12


# ------------------------------------------------------------------ kills


def kill(arguments: argparse.Namespace) -> bool:
    same = True
    for model in arguments.models:
        for devices in arguments.devices:
            print(f"\n{model}, {devices} device(s), {arguments.kills} kills", flush=True)
            same &= equal_after_kills(model, devices, arguments.kills, arguments.seed)
    return same


def equal_after_kills(model: str, devices: int, kills: int, seed: int) -> bool:
    import kill_recipe

    kinds = [*kill_recipe.MOMENTS[:kills], *["random"] * (kills - len(kill_recipe.MOMENTS))]
    random.Random(seed).shuffle(kinds)
    steps = 14 * kills
    flags = ("--devices", devices, "--model", model)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        wanted = kill_recipe.run_whole(whole, *flags, "--steps", steps)
        files = kill_recipe.run_killed(
            killed,
            *flags,
            steps=steps,
            kills=kinds,
            seed=seed,
            say=lambda line: print(line, flush=True),
        )
    names = sorted(wanted.keys() | files.keys())
    other = [name for name in names if wanted.get(name) != files.get(name)]
    print(f"{len(names) - len(other)} of {len(names)} files are equal; others: {other}", flush=True)
    return not other


# ------------------------------------------------------------------ standing still


def stand_still(arguments: argparse.Namespace) -> None:
    import numpy as np
    import tf_keras as keras

    from tfllm import optimization
    from tfllm.training.checkpoints import Checkpoints

    width = int((arguments.mib * 2**20 / 12 / LAYERS) ** 0.5)
    layers = [keras.layers.Dense(width, use_bias=False) for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input([width]), *layers])
    model.compile(optimization.adamw(1e-4, model.trainable_variables), "mse")
    rows = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    mib = 3 * model.count_params() * 4 / 2**20

    def step() -> None:
        model.train_on_batch(rows, rows)

    for _ in range(3):
        step()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), model)
        kinds: dict[str, Callable[[], Any]] = {
            "none": lambda: None,
            "synchronous": lambda: checkpoints.save({}),
            "asynchronous": lambda: checkpoints.start_saving({}),
        }
        found: dict[str, list[list[float]]] = {name: [] for name in kinds}
        for _ in range(arguments.rounds):
            for name, save in kinds.items():
                found[name].append(timed(save, step))
                checkpoints.wait()
                step()
    print(f"\nA checkpoint of {mib:.0f} MiB; seconds, medians of {arguments.rounds} rounds")
    print(f"| save | the call | the next step | call and {STEPS_BESIDE} steps |\n|---|---|---|---|")
    for name, rounds in found.items():
        call, first, all_of_it = (statistics.median(part) for part in zip(*rounds, strict=True))
        print(f"| {name} | {call:.3f} | {first:.3f} | {all_of_it:.3f} |")


def timed(save: Callable[[], Any], step: Callable[[], None]) -> list[float]:
    """Seconds of the call, of the step after it, and of the call and some steps together."""
    times = [time.perf_counter()]
    save()
    times.append(time.perf_counter())
    for _ in range(STEPS_BESIDE):
        step()
        times.append(time.perf_counter())
    return [times[1] - times[0], times[2] - times[1], times[-1] - times[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="all", choices=["all", "kills", "standstill"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", default=["network"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mib", type=float, default=500.0, help="of weights and slots")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what in ("all", "standstill"):
        stand_still(arguments)
    if arguments.what in ("all", "kills") and not kill(arguments):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
