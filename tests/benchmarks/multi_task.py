r"""SST-2, MRPC and STS-B learnt together, beside each of them alone, through the recipe.

    python tests/benchmarks/multi_task.py --pretrained /folder/of/all-MiniLM-L6-v2 --data DATA \
        --results multi_task.jsonl

Each run is `recipes/finetune_multitask.py` with a list of one task or of all three, and nothing
else differs: batch, first weights of the backbone, each task's rows in the same order. All take one
epoch. In one of three tasks each has exactly as many steps as alone, spread evenly over the run by
chance (`--mixing proportional`). So that a task meets the same learning rates as alone, at the same
share of its own steps, warm-up is a share of all steps and the fall is linear: the rate of its k-th
of n steps is about that of the share k/n both times. One epoch leaves nothing to choose: the last
weights are measured.

Each run that ends is a line of --results; started again, the command goes on with those that lack.
The table says of each task the means over seeds with their standard errors, and whether the mean of
three together is below that of the task alone by more than two standard errors of the difference.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune_multitask.py"
# Name → folder below the data, keys of the list of tasks, and what is compared.
TASKS: dict[str, tuple[str, dict[str, str], str]] = {
    "sst2": (
        "classification/sst2",
        {"kind": "single_label", "text": "sentence", "label": "label"},
        "accuracy",
    ),
    "mrpc": (
        "pairs/mrpc",
        {
            "kind": "single_label",
            "text": "#1 String",
            "text_pair": "#2 String",
            "label": "Quality",
        },
        "accuracy",
    ),
    "stsb": (
        "pairs/sts-b",
        {"kind": "regression", "text": "sentence1", "text_pair": "sentence2", "label": "score"},
        "spearman",
    ),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("multi_task.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sst2", type=int, default=3_840, help="training sentences, by chance")
    parser.add_argument("--mrpc", type=int, default=3_668, help="training pairs, by chance")
    parser.add_argument("--stsb", type=int, default=3_840, help="training pairs, by chance")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--warmup_fraction", type=float, default=0.1)
    return parser.parse_args()


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What must be the same in all runs of a table."""
    names = (*TASKS, "batch", "learning_rate", "warmup_fraction")
    return {name: getattr(arguments, name) for name in names}


def cut(source: Path, target: Path, rows: int) -> None:
    """Keep the header and some rows, the same ones each time, in their order."""
    header, *lines = source.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    chosen = sorted(random.Random(0).sample(range(len(lines)), min(rows, len(lines))))
    text = "\n".join([header, *(lines[row] for row in chosen)])
    target.write_text(f"{text}\n", encoding="utf-8")


def list_tasks(arguments: argparse.Namespace, names: tuple[str, ...], folder: Path) -> Path:
    """Write the list of tasks, and their training files, into a folder."""
    tables = []
    for name in names:
        place, keys, _ = TASKS[name]
        data = arguments.data.absolute() / place
        cut(data / "train.tsv", folder / f"{name}.tsv", getattr(arguments, name))
        files = {"train": f"{name}.tsv", "validation": str(data / "dev.tsv")}
        values = {"name": name, **files, **keys}
        lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
        tables.append("\n".join(["[[task]]", *lines]))
    path = folder / "tasks.toml"
    path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    return path


def run(arguments: argparse.Namespace, names: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Train once; what it leaves is thrown away, its record excepted."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        flags = {
            "tasks": list_tasks(arguments, names, folder),
            "pretrained": arguments.pretrained.absolute(),
            "epochs": 1,
            "global_batch_size": arguments.batch,
            "learning_rate": arguments.learning_rate,
            "warmup_fraction": arguments.warmup_fraction,
            "checkpoint_minutes": 60,
            "seed": seed,
            "run_dir": folder / "run",
            "export_dir": folder / "savedmodels",
        }
        command = [sys.executable, RECIPE, *(f"--{name}={value}" for name, value in flags.items())]
        begun = time.perf_counter()
        subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - begun
        record = json.loads((folder / "run" / "run.json").read_text())
    scores = {name: record["metrics"][f"{name}/{TASKS[name][2]}"] for name in names}
    steps = {name: math.ceil(getattr(arguments, name) / arguments.batch) for name in names}
    return {
        "tasks": list(names),
        "seed": seed,
        "scores": scores,
        "steps": steps,
        "seconds": round(seconds, 1),
        "train_seconds": record["timing"]["train"],
        "settings": settings_of(arguments),
    }


def done_before(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs of these settings that have ended."""
    if not arguments.results.exists():
        return []
    lines = map(json.loads, arguments.results.read_text().splitlines())
    return [line for line in lines if line["settings"] == settings_of(arguments)]


def table(runs: list[dict[str, Any]]) -> str:
    """Lay means and standard errors side by side."""
    rows = [
        "| task | steps | alone | three together | difference | two standard errors of it | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (_, _, metric) in TASKS.items():
        alone = [one["scores"][name] for one in runs if one["tasks"] == [name]]
        together = [one["scores"][name] for one in runs if one["tasks"] == list(TASKS)]
        if min(len(alone), len(together)) < 2:
            rows.append(f"| {name} | needs two seeds | | | | | |")
            continue
        steps = next(one["steps"][name] for one in runs if name in one["tasks"])
        errors = [standard_error(scores) for scores in (alone, together)]
        means = [statistics.mean(scores) for scores in (alone, together)]
        two = 2 * math.hypot(*errors)
        difference = means[1] - means[0]
        shown = [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(means, errors, strict=True)]
        verdict = "holds" if difference >= -two else "below"
        rows.append(
            f"| {name}, {metric} | {steps} | {shown[0]} | {shown[1]} | {difference:+.4f} "
            f"| {two:.4f} | {verdict} |"
        )
    return "\n".join(rows)


def standard_error(scores: list[float]) -> float:
    return statistics.stdev(scores) / math.sqrt(len(scores))


def main() -> None:
    arguments = parse()
    runs = done_before(arguments)
    for seed in arguments.seeds:
        for names in (*((name,) for name in TASKS), tuple(TASKS)):
            if any(one["tasks"] == list(names) and one["seed"] == seed for one in runs):
                continue
            found = run(arguments, names, seed)
            runs.append(found)
            with arguments.results.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
    print(table([one for one in runs if one["seed"] in arguments.seeds]))


if __name__ == "__main__":
    main()
