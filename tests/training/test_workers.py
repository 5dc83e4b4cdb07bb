"""Workers over loopback train as one process does, and go on where they were killed.

The launcher starts them, as it does for a user; `worker_recipe.py` is what they run.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import worker_recipe

from tfllm import training
from tfllm.errors import InputError
from tfllm.training.workers import Workers, _dealt

ROOT = Path(__file__).parent.parent.parent
RECIPE = Path(worker_recipe.__file__)
LAUNCHER = [sys.executable, ROOT / "recipes" / "launch_workers.py", "--network"]


@pytest.fixture(scope="session")
def network() -> str:
    """Private where the machine allows it."""
    code = "from tfllm import cli; cli.enter_private_network()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return "host" if done.returncode else "private"


@pytest.fixture
def launch(network, tmp_path):
    """Run the recipe in two workers: the launcher's result, and values by network's name."""

    def run(*flags: object, launcher: tuple[object, ...] = ("--max_restarts", 1)):
        done = launch_in(tmp_path, network, *flags, launcher=launcher)
        return done, final_values(tmp_path)

    return run


def launch_in(
    folder: Path, network: str, *flags: object, launcher: tuple[object, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCHER, network, *launcher, "--", RECIPE, "--run_dir", "r", *flags]
    return subprocess.run(
        [*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def final_values(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Weights, optimizer and best loss by name, by name of the network."""
    return {path.parent.name: dict(np.load(path)) for path in folder.glob("r/*/weights.npz")}


@pytest.fixture(scope="module")
def undisturbed(network, tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = launch_in(folder, network, launcher=("--max_restarts", 0))
    assert done.returncode == 0, done.stderr
    # What people read comes from the chief, once.
    assert done.stdout.count("Starting TensorFlow") == done.stdout.count("Exporting") == 1
    names = {path.name for path in folder.rglob("*")}
    assert len([name for name in names if name.startswith("events.")]) == 2  # one a network
    return final_values(folder)


def assert_same(values: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert values.keys() == wanted.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, wanted[name])


def test_two_workers_equal_one_process(undisturbed, tmp_path):
    """SGD, no dropout, unequal weights; in one step worker 1 has rows without any weight."""
    strategy = tf.distribute.get_strategy()
    worker_recipe.train_network(
        worker_recipe.Config(), tmp_path / "r" / "plain", strategy, dropout=0.0
    )
    alone = final_values(tmp_path)["plain"]
    assert alone.keys() == undisturbed["plain"].keys()
    for name, value in alone.items():
        np.testing.assert_allclose(undisturbed["plain"][name], value, atol=1e-6)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(undisturbed, launch):
    """AdamW, with dropout: bit for bit."""
    done, values = launch("--networks", "dropout", "--fail", "kill")
    assert done.returncode == 0, done.stderr
    assert "worker 1 was killed by SIGKILL: starting all workers again" in done.stderr
    assert "[0] Going on from step 3 of 9." in done.stdout
    assert_same(values["dropout"], undisturbed["dropout"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--fail", "die_before_joining"], "worker 1 was killed by SIGKILL"),
        (["--fail", "die_before_joining", "--worker", 0], "worker 0 was killed by SIGKILL"),
        (["--fail", "never_join"], "no worker has given a sign of life for 15 seconds"),
        # TensorFlow's own heartbeats may notice it first.
        (["--fail", "freeze"], "worker 0 ended with|no worker has given a sign of life"),
        (["--fail", "kill", "--worker", 0], "worker 0 was killed by SIGKILL"),
        (["--fail", "while_writing", "--worker", 0], "worker 0 was killed by SIGKILL"),
    ],
)
def test_other_ways_to_fail_change_nothing_either(undisturbed, launch, flags, reason):
    launcher = ("--max_restarts", 1, "--hang_seconds", 15)
    done, values = launch("--networks", "dropout", *flags, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert re.search(f"({reason}).*: starting all workers again", done.stderr)
    assert_same(values["dropout"], undisturbed["dropout"])


@pytest.mark.slow
@pytest.mark.parametrize("worker", [0, 1])
def test_sigterm_to_one_worker_stops_all_after_the_same_step(undisturbed, launch, tmp_path, worker):
    flags = ["--networks", "dropout", "--fail", "stop", "--worker", worker]
    done, values = launch(*flags)
    assert (done.returncode, values) == (143, {})
    assert "[0] Stopped by SIGTERM. A checkpoint is in r/checkpoints" in done.stderr.replace(
        "There is no checkpoint yet; the same command starts again.",
        "A checkpoint is in r/checkpoints",  # this recipe's are one folder down
    )
    assert (tmp_path / "r" / "dropout" / "checkpoints" / "step-000000005").is_dir()
    done, values = launch(*flags)
    assert done.returncode == 0 and "Going on from step 5 of 9." in done.stdout
    assert_same(values["dropout"], undisturbed["dropout"])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_by_all(undisturbed, launch, tmp_path):
    flags = ["--networks", "dropout", "--fail", "kill", "--at_step", 8]
    done, _ = launch(*flags, launcher=("--max_restarts", 0))
    assert done.returncode == 1
    newest = tmp_path / "r" / "dropout" / "checkpoints" / "step-000000006"
    (newest / "weights.index").write_bytes(b"")
    done, values = launch(*flags)
    assert done.returncode == 0, done.stderr
    assert "step-000000006 is damaged" in done.stdout and "Going on from step 3" in done.stdout
    assert_same(values["dropout"], undisturbed["dropout"])


@pytest.mark.slow
def test_a_batch_that_workers_cannot_share_is_refused_once(launch, tmp_path):
    done, _ = launch("--accumulate_steps", 16)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --global_batch_size 8 can't be dealt to 2 device(s) with --accumulate_steps 16: "
        "give a multiple of 32\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_workers_that_differ_refuse_with_one_line(network, tmp_path):
    """By hand, as on two machines: another text on one of them."""
    program = (
        "import sys; from tfllm import training; from tfllm.training.workers import Workers\n"
        "workers = Workers(training.create_strategy('multi_worker'))\n"
        "assert workers.gather(workers.index + 0.5) == [0.5, 1.5]\n"
        "assert workers.agree(7 * workers.index) == 7\n"
        "assert workers.from_chief(workers.index) == 0\n"
        "assert workers.without(workers.is_chief) == [1]\n"
        "workers.require_same({'seed': 1})\n"
        "try:\n"
        "    workers.require_same({'seed': 1, 'training text': workers.index})\n"
        "except ValueError as error:\n"
        "    print(f'error: {error}', file=sys.stderr); sys.exit(2)\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [*map(str, LAUNCHER), network, "--max_restarts", "0", "--", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: worker 1 of 2 has another training text than worker 0. Start all workers with the "
        "same flags and the same data\n"
    )


@pytest.mark.slow
def test_the_recipe_that_pretrains_survives_a_kill_from_outside(undisturbed, network, tmp_path):
    models = [
        pretrain(tmp_path / name, network, kill=name == "killed") for name in ("whole", "killed")
    ]
    assert models[0] == models[1]


def pretrain(folder: Path, network: str, *, kill: bool) -> bytes:
    """Train a tiny GPT-2 with dropout in two workers: the saved model's file."""
    folder.mkdir()
    words = np.random.default_rng(1).choice("the cat sat on a mat by the sea".split(), (60, 40))
    (folder / "a.txt").write_text("\n\n".join(" ".join(row) for row in words))
    flags = (
        "--train a.txt --documents blank_line --vocabulary_size 300 --num_layers 1 --num_heads 2"
    )
    flags += " --hidden_dim 16 --dropout 0.1 --global_batch_size 8 --sequence_length 32"
    flags += " --max_new_tokens 6 --epochs 12 --run_dir r"
    recipe = ROOT / "recipes" / "pretrain_causal_lm.py"
    command = [*map(str, LAUNCHER), network, "--", str(recipe), *flags.split()]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if kill and line.startswith("[0] Epoch 2,"):
                os.kill(process_of_worker(1, folder), signal.SIGKILL)
                kill = False
    assert process.returncode == 0 and not kill
    assert [path.name for path in folder.glob("savedmodels/*/*")] == ["1"]
    return (folder / "r" / "model" / "model.safetensors").read_bytes()


def process_of_worker(index: int, folder: Path) -> int:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f'"index": {index}' in (path / "environ").read_text(errors="replace"):
                if (path / "cwd").readlink() == folder:
                    return int(path.name)
        except OSError:
            continue
    raise AssertionError("no such worker")


@pytest.mark.slow
def test_ctrl_c_of_the_launcher_saves(network, tmp_path):
    flags = ["--run_dir", "r", "--networks", "dropout"]
    command = [*map(str, LAUNCHER), network, "--", str(RECIPE), *flags]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "step " in line:
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=120)
    # It may have come too late to stop nine steps; never does a worker outlive its launcher.
    assert process.returncode in (0, 130)
    assert any((tmp_path / "r" / "dropout" / "checkpoints").glob("step-*"))
    ends = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(os.fsencode(RECIPE) in line and os.fsencode(tmp_path) in line for line in ends)


class TestBadInput:
    def test_no_variable(self, monkeypatch):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        with pytest.raises(InputError, match="needs the environment variable TF_CONFIG.*launch_wo"):
            training.create_strategy("multi_worker")

    @pytest.mark.parametrize(
        "variable",
        [
            "{",
            "[]",
            '{"cluster": {"worker": ["127.0.0.1:1"]}}',
            '{"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 1}}',
            '{"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "ps", "index": 0}}',
        ],
    )
    @pytest.mark.parametrize("name", ["auto", "multi_worker"])
    def test_a_variable_that_cannot_be_used(self, monkeypatch, name, variable):
        monkeypatch.setenv("TF_CONFIG", variable)
        with pytest.raises(InputError, match="TF_CONFIG can't be used: .* Received: ") as refusal:
            training.create_strategy(name)
        assert "\n" not in str(refusal.value)


def test_a_process_on_its_own_asks_nobody():
    workers = Workers(tf.distribute.get_strategy())
    assert (workers.index, workers.count, workers.is_chief) == (0, 1, True)
    assert workers.gather(0.25) == [0.25] and workers.agree(15) == 15
    assert workers.from_chief(float("inf")) == float("inf") and workers.without(True) == []
    workers.require_same({"seed": 1})
    workers.wait()
    data = tf.data.Dataset.range(3)
    assert workers.share(lambda first, steps: data.skip(first).take(steps), 1, 1) is not data


def test_rows_are_dealt_to_a_workers_devices_in_order():
    batch = (tf.reshape(tf.range(24), [6, 4]), {"weights": tf.range(6)})
    dealt = list(tf.data.Dataset.from_tensors(batch).map(lambda *b: _dealt(b, 2)).unbatch())
    assert [rows["weights"].numpy().tolist() for _, rows in dealt] == [[0, 1, 2], [3, 4, 5]]
    assert dealt[1][0][0].numpy().tolist() == [12, 13, 14, 15]
