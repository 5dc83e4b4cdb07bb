"""Flags, exit codes, run folders: through a recipe of one line, as a user meets them."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tfllm.cli import CommonConfig, Run
from tfllm.errors import InputError

RECIPE = textwrap.dedent(
    '''
    """A recipe.

    With a docstring.
    """
    import dataclasses, errno, os, signal
    from tfllm import cli, errors

    @dataclasses.dataclass(frozen=True)
    class Config(cli.CommonConfig):
        act: str = "finish"
        """What to do."""

    def main(config, run):
        run.open()
        if config.act == "refuse":
            raise errors.InputError("the file\\nx.txt is bad")
        if config.act == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if config.act == "stop":
            raise errors.Interrupted(signal.SIGTERM)
        if config.act == "break":
            raise RuntimeError("a defect")
        with run.timed("work"):
            run.metrics["loss"] = 1.5
        run.say("a line for people")

    if __name__ == "__main__":
        cli.main(Config, main, __file__)
    '''
)


@pytest.fixture
def start(tmp_path):
    (tmp_path / "toy.py").write_text(RECIPE)

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "toy.py", *flags],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_run_leaves_its_record_and_prints_it_last(start, tmp_path):
    done = start("--learning-rate", "0.5", "--global_batch_size", "7")
    assert done.returncode == 0, done.stderr
    *_, people, place, last = done.stdout.splitlines()
    assert (people, place) == ("a line for people", "The run is in runs/toy.")
    record = json.loads(last)
    assert record == json.loads((tmp_path / "runs" / "toy" / "run.json").read_text())
    assert set(record) == {
        "config",
        "metrics",
        "timing",
        "throughput",
        "versions",
        "export",
    }
    assert record["config"]["learning_rate"] == 0.5
    assert record["config"]["global_batch_size"] == 7
    assert record["metrics"] == {"loss": 1.5} and "work" in record["timing"]
    assert record["versions"]["tensorflow"].startswith("2.20")


def test_finished_runs_are_left_alone(start, tmp_path):
    for _ in range(3):
        assert start().returncode == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["toy", "toy-2", "toy-3"]
    done = start("--run_dir", "runs/toy")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --run_dir runs/toy holds a finished run. Give another --run_dir\n"
    )


def test_an_unfinished_run_is_continued_only_with_the_same_flags(start, tmp_path):
    assert start("--act", "refuse", "--run_dir", "r").returncode == 2
    done = start("--act", "refuse", "--run_dir", "r", "--epochs", "3")
    assert "unfinished run with other flags: epochs was 1 and is 3" in done.stderr
    assert "--resume is never" in start("--run_dir", "r", "--resume", "never").stderr
    assert "the file x.txt is bad" in start("--act", "refuse", "--run_dir", "r").stderr


@pytest.mark.parametrize(
    ("act", "code", "message"),
    [
        ("refuse", 2, "error: the file x.txt is bad\n"),
        ("full", 2, "error: the disk is full"),
        ("stop", 143, "Stopped by SIGTERM. There is no checkpoint yet"),
    ],
)
def test_exit_codes(start, act, code, message):
    done = start("--act", act)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_defect_keeps_its_traceback(start):
    done = start("--act", "break")
    assert done.returncode == 1 and "RuntimeError: a defect" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1. Received: 0"),
        (["--validation_fraction", "1"], "--validation_fraction must be between 0 and 1"),
        (["--learning_rate", "-1"], "--learning_rate must be above 0, below 1000. Received: -1.0"),
        (["--learning_rate", "nan"], "--learning_rate must be a finite number. Received: nan"),
        (["--epochs", "9" * 20], "--epochs must be below 2³². Received: 99999999999999999999"),
        (["--run_dir", ""], "--run_dir must not be empty. Received: ''"),
        (["--clip_norm", "inf"], "--clip_norm must be a finite number. Received: inf"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--profile_steps", "9-3"], "--profile_steps must look like 100-110, counted from 1"),
        (["--average_momentum", "1"], "--average_momentum must be above 0 and below 1"),
        (["--warmup_fraction", "1"], "--warmup_fraction must be at least 0 and below 1"),
        (
            ["--warmup_fraction", "0.1", "--warmup_steps", "3"],
            "--warmup_fraction and --warmup_steps exclude each other",
        ),
        (["--layer_decay", "1.1"], "--layer_decay must be above 0 and at most 1"),
        (["--freeze_layers", "2"], "--freeze_layers freezes what nobody has trained"),
        (["--lora_rank", "2"], "--lora_rank needs --pretrained"),
        (["--lora_dropout", "0.1"], "--lora_dropout needs --lora_rank"),
        (["--validation", "a.txt"], "--validation and --test need --train"),
    ],
)
def test_impossible_values_are_one_line(start, tmp_path, flags, message):
    done = start(*flags)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_an_unknown_flag(start):
    done = start("--no_such_flag", "1")
    assert done.returncode == 2 and "no-such-flag" in (done.stderr + done.stdout).replace("_", "-")


def test_help_names_units_and_defaults(start):
    done = start("--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "Optimizer steps over which the learning rate rises" in text
    assert "With a docstring" in text


def test_a_run_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file is a file"):
        Run(CommonConfig(run_dir=str(tmp_path / "file" / "run")), "toy")
    monkeypatch.chdir(tmp_path)
    assert Run(CommonConfig(), "toy").directory == Path("runs/toy")
    assert not (tmp_path / "runs").exists()
