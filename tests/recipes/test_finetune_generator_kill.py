"""Killed −9 and started again, the recipe ends with the same weights, bit for bit.

`tests/training/test_kill.py` kills the training loop at its worst moments; here all of the recipe
goes through it: packing, dropout, an average of the weights, measuring by what it writes, export.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune_generator.py"
FLAGS = (
    "--train train.jsonl --validation held.jsonl --metrics chrf exact_match --generated 6 "
    "--num_layers 1 --num_heads 2 --hidden_dim 16 --vocabulary_size 300 --dropout 0.2 "
    "--global_batch_size 8 --accumulate_steps 2 --sequence_length 48 --max_new_tokens 6 "
    "--average_momentum 0.9 --learning_rate 0.003 --epochs 6 --checkpoint_steps 2 --run_dir r"
).split()
WORDS = "the cat sat on a mat and the dog saw a house by the sea".split()


def write_examples(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for name, count in (("train", 240), ("held", 12)):
        rows = (" ".join(rng.choice(WORDS, 5)) for _ in range(count))
        lines = (json.dumps({"source": row.upper(), "target": row}) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines))


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RECIPE), *FLAGS], cwd=folder, stdout=subprocess.PIPE, text=True
    )


def kill_after_line(process: subprocess.Popen[str], beginning: str) -> None:
    for line in process.stdout:
        if line.startswith(beginning):
            process.kill()
            break


def kill_within_a_save(process: subprocess.Popen[str], folder: Path, steps: int) -> None:
    """Kill while the checkpoint after the next `steps` ones is being written."""
    checkpoints = folder / "r" / "checkpoints"
    enough = newest_step(checkpoints) + steps
    while process.poll() is None:
        hidden = [path for path in checkpoints.glob(".step-*") if path.is_dir()]
        if newest_step(checkpoints) >= enough and hidden:
            process.kill()
            break
        time.sleep(0.001)
    process.stdout.read()


def newest_step(checkpoints: Path) -> int:
    return max((int(path.name[-9:]) for path in checkpoints.glob("step-*")), default=0)


def left_by(folder: Path) -> dict[str, bytes]:
    """What a run leaves, times and event files excepted."""
    run = folder / "r"
    files = [
        *run.glob("checkpoints/*/*"),
        *run.glob("model/*"),
        *folder.glob("savedmodels/*/*/variables/*"),
        run / "validation_predictions.jsonl",
    ]
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    del metrics["peak_memory_mib"]
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}
    return kept | {"metrics": json.dumps(metrics, sort_keys=True).encode()}


@pytest.mark.slow
def test_killed_in_saves_between_epochs_and_while_it_exports(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_examples(folder)
    with start(whole) as process:
        process.stdout.read()
    assert process.returncode == 0

    for kill in (
        lambda process: kill_within_a_save(process, killed, 8),
        lambda process: kill_after_line(process, "Epoch 3,"),
        lambda process: kill_after_line(process, "Exporting"),
    ):
        with start(killed) as process:
            kill(process)
        assert process.returncode == -signal.SIGKILL
        assert newest_step(killed / "r" / "checkpoints") > 0
        assert not list(killed.glob("savedmodels/*/[0-9]*"))
    with start(killed) as process:
        process.stdout.read()
    assert process.returncode == 0

    wanted, found = left_by(whole), left_by(killed)
    assert {"r/model/model.safetensors", "r/validation_predictions.jsonl"} < wanted.keys()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    assert [path.name for path in killed.glob("savedmodels/*/*") if path.is_dir()] == ["1"]
