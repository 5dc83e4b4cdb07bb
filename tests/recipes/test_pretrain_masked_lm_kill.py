"""Killed −9 and started again, masked pretraining ends with the same weights, bit for bit.

`tests/training/test_kill.py` kills the training loop at its worst moments; here all of the recipe
goes through it: pairs, masks drawn anew in each epoch, dropout, an average of the weights, export.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain_masked_lm.py"
FLAGS = (
    "--train train.txt --validation held.txt --documents blank_line --mask_unit span "
    "--objectives masked_lm next_sentence=0.5 --num_layers 1 --num_heads 2 --hidden_dim 16 "
    "--vocabulary_size 200 --dropout 0.2 --global_batch_size 8 --accumulate_steps 2 "
    "--sequence_length 48 --average_momentum 0.9 --learning_rate 0.003 --epochs 5 "
    "--checkpoint_steps 2 --run_dir r"
).split()
WORDS = "the cat sat on a mat and the dog saw a house by the sea".split()


def write_texts(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for name, count in (("train", 120), ("held", 12)):
        rows = ("\n".join(" ".join(rng.choice(WORDS, 9)) for _ in range(4)) for _ in range(count))
        (folder / f"{name}.txt").write_text("\n\n".join(rows))


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(RECIPE), *FLAGS, *flags]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_after_line(process: subprocess.Popen[str], beginning: str) -> None:
    for line in process.stdout:
        if line.startswith(beginning):
            process.kill()
            break


def kill_within_a_save(process: subprocess.Popen[str], folder: Path, steps: int) -> None:
    """Kill while the checkpoint after the first `steps` steps is being written."""
    checkpoints = folder / "r" / "checkpoints"
    while process.poll() is None:
        hidden = [path for path in checkpoints.glob(".step-*") if path.is_dir()]
        if newest_step(checkpoints) >= steps and hidden:
            process.kill()
        time.sleep(0.001)


def newest_step(checkpoints: Path) -> int:
    return max((int(path.name[-9:]) for path in checkpoints.glob("step-*")), default=0)


def left_by(folder: Path) -> dict[str, bytes]:
    """What a run leaves, times and event files excepted."""
    run = folder / "r"
    files = [
        *run.glob("checkpoints/*/*"),
        *run.glob("model/*"),
        *folder.glob("savedmodels/*/*/variables/*"),
    ]
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    del metrics["peak_memory_mib"]
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}
    return kept | {"metrics": json.dumps(metrics, sort_keys=True).encode()}


@pytest.mark.slow
def test_killed_in_a_save_between_epochs_and_while_it_exports(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_texts(folder)
    with start(whole) as process:
        _, error = process.communicate()
    assert process.returncode == 0, error

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

    # Other masks or another loss are another run, and this one stays as it is.
    before = left_in_checkpoints(killed)
    changed = (("--mask_rate", "0.2"), ("--objectives", "masked_lm", "next_sentence"))
    for flags, what in zip(changed, ("mask_rate was 0.15 and is", "objectives was"), strict=True):
        with start(killed, *flags) as process:
            _, error = process.communicate()
        assert process.returncode == 2
        assert len(error.splitlines()) == 1 and what in error, error
    assert left_in_checkpoints(killed) == before

    with start(killed) as process:
        _, error = process.communicate()
    assert process.returncode == 0, error
    wanted, found = left_by(whole), left_by(killed)
    assert {"r/model/model.safetensors", "r/model/tokenizer.json"} < wanted.keys()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    assert [path.name for path in killed.glob("savedmodels/*/*") if path.is_dir()] == ["1"]


def left_in_checkpoints(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.glob("r/checkpoints/*/*")}
