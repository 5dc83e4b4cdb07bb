"""The launcher as its user runs it, with workers that do what is tested and nothing else."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parent.parent.parent / "recipes" / "launch_workers.py"
WORKER = textwrap.dedent(
    """
    import json, os, signal, socket, subprocess, sys, time
    config = json.loads(os.environ["TF_CONFIG"])
    index, act = config["task"]["index"], sys.argv[1]
    with open("starts", "a") as file:
        file.write(f"{index}\\n")
    attempt = open("starts").read().count(str(index))
    while len(open("starts").readlines()) < 2 * attempt:
        time.sleep(0.01)  # nobody fails before the other has started

    def wait():
        print("waiting", flush=True)
        time.sleep(600)

    def save(number, frame):
        print("saved", flush=True)
        sys.exit(128 + number)

    if act == "tell":
        print(f"a line of {sys.argv[2:]}", flush=True)
        print("WARNING: All log messages before absl::InitializeLog() is called", file=sys.stderr)
        print("aside", file=sys.stderr)
        time.sleep(0.2 if index else 0.5)
        if index == 0:
            print(json.dumps({"ports": config["cluster"]["worker"]}))
    elif act == "network":
        print(json.dumps({"devices": [name for _, name in socket.if_nameindex()]}))
    elif act == "gpus":
        print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"))
    elif act == "refuse":
        print(f"error: --epochs must be at least 1. Received: 0", file=sys.stderr)
        sys.exit(2)
    elif act == "one_refuses":
        if index == 0:
            wait()
        print(f"error: no such file", file=sys.stderr)
        sys.exit(2)
    elif act == "crash":
        if index == 1:
            sys.exit("a defect")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as TensorFlow, waiting for a peer
        wait()
    elif act == "die_once":
        if index == 1 and attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)
    elif act == "hang_once" and attempt == 1:
        wait()
    elif act == "save":
        signal.signal(signal.SIGINT, save)
        signal.signal(signal.SIGTERM, save)
        wait()
    elif act == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        wait()
    elif act == "stopped_alone" and index == 1:
        sys.exit(143)
    elif act == "children":
        child = subprocess.Popen(["sleep", "600"])
        with open(f".pids{index}", "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        os.rename(f".pids{index}", f"pids{index}")
        while not os.path.exists("pids0"):
            time.sleep(0.01)
        if index == 1 and "crash" in sys.argv:
            sys.exit(1)
        wait()
    """
)


@pytest.fixture
def command(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)

    def build(*words: object, flags: tuple[object, ...] = ("--network", "host")) -> list[str]:
        return [
            sys.executable,
            str(LAUNCHER),
            *map(str, flags),
            "--",
            "worker.py",
            *map(str, words),
        ]

    return build


@pytest.fixture
def launch(command, tmp_path):
    def run(*words: object, **kwargs) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words, **kwargs), cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture
def start(command, tmp_path):
    """Start the launcher and wait until its two workers wait."""
    started = []

    def run(*words: object, **kwargs) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*words, **kwargs),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert sorted([process.stdout.readline() for _ in range(2)]) == [
            "[0] waiting\n",
            "[1] waiting\n",
        ]
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def ends(pid: int) -> bool:
    """Whether a process is gone, or goes within seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # killed; nobody here reaps orphans
            return True
        time.sleep(0.1)
    return False


def test_lines_have_numbers_and_the_record_is_last(launch):
    done = launch("tell", "--flag", "a b", flags=("--workers", 3, "--network", "host"))
    assert done.returncode == 0, done.stderr
    *lines, record = done.stdout.splitlines()
    assert sorted(lines) == [f"[{i}] a line of ['--flag', 'a b']" for i in range(3)]
    assert sorted(done.stderr.splitlines()) == [f"[{i}] aside" for i in range(3)]
    ports = json.loads(record)["ports"]
    assert len(set(ports)) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", port) for port in ports)


def test_workers_have_a_network_of_their_own(launch):
    done = launch("network", flags=())
    if "allows no private network" in done.stderr:
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        pytest.skip("this machine doesn't let us make a network")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records == [{"devices": ["lo"]}] * 2


def test_gpus_are_shared_out(launch, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,5,7")
    assert sorted(launch("gpus").stdout.splitlines()) == ["[0] GPUs 0,1", "[1] GPUs 5,7"]
    done = launch("gpus", flags=("--workers", 3, "--network", "host"))
    assert done.returncode == 2 and "4 GPU(s) can't be shared out" in done.stderr
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sorted(launch("gpus").stdout.splitlines()) == ["[0] GPUs", "[1] GPUs"]


@pytest.mark.parametrize(
    ("act", "line"),
    [
        ("refuse", "error: --epochs must be at least 1. Received: 0\n"),
        ("one_refuses", "error: no such file\n"),
    ],
)
def test_bad_input_is_said_once_and_not_tried_again(launch, tmp_path, act, line):
    done = launch(act)
    assert (done.returncode, done.stderr) == (2, line)
    assert len((tmp_path / "starts").read_text().split()) == 2


def test_a_crash_is_tried_again_a_bounded_number_of_times(launch, tmp_path):
    done = launch("crash", flags=("--network", "host", "--max_restarts", 2))
    assert done.returncode == 1
    reason = "worker 1 ended with exit code 1"
    again = f"{reason}: starting all workers again, from the last checkpoint if there is one"
    assert [line for line in done.stderr.splitlines() if "defect" not in line] == [
        f"{again} (restart 1 of 2)",
        f"{again} (restart 2 of 2)",
        f"error: {reason}, and the 2 restarts of --max_restarts are used up. The same command goes "
        "on from the last checkpoint",
    ]
    assert (tmp_path / "starts").read_text().count("1") == 3


def test_a_killed_worker_is_started_again_with_the_others(launch, tmp_path):
    done = launch("die_once")
    assert done.returncode == 0
    assert done.stderr.startswith("worker 1 was killed by SIGKILL: starting all workers again")
    assert (tmp_path / "starts").read_text().count("1") == 2


def test_silent_workers_are_started_again(launch):
    done = launch("hang_once", flags=("--network", "host", "--hang_seconds", 2))
    assert done.returncode == 0
    assert done.stderr.startswith("no worker has given a sign of life for 2 seconds: starting")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_saving_is_waited_for(start, number):
    process = start("save")
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert sorted(out.splitlines()) == ["[0] saved", "[1] saved"] and error == ""


def test_a_deaf_worker_is_killed_after_the_grace_or_a_second_signal(start):
    process = start("deaf", flags=("--network", "host", "--grace_seconds", 1))
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "not all workers have ended: killing them" in error
    process = start("deaf")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_worker_that_was_stopped_from_outside_stops_all(launch, tmp_path):
    done = launch("stopped_alone")
    assert done.returncode == 143
    assert len((tmp_path / "starts").read_text().split()) == 2


def test_what_workers_started_ends_with_them(launch, tmp_path):
    done = launch("children", "crash", flags=("--network", "host", "--max_restarts", 0))
    assert done.returncode == 1
    for index in (0, 1):
        for pid in (tmp_path / f"pids{index}").read_text().split():
            assert ends(int(pid))


def test_workers_end_with_a_killed_launcher(start, tmp_path):
    process = start("children")
    pids = [(tmp_path / f"pids{index}").read_text().split() for index in (0, 1)]
    process.kill()
    try:
        assert all(ends(int(pid)) for pid, _ in pids)
    finally:
        for _, child in pids:
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0", "--", "worker.py"], "--workers must be at least 1. Received: 0"),
        (["--max_restarts", "-1", "--", "worker.py"], "--max_restarts must not be negative"),
        (["--wrokers", "2", "--", "worker.py"], "Perhaps you meant --workers"),
        (["--", "nothing.py"], "there is no recipe nothing.py"),
        ([], "give a recipe and its flags after --"),
        (["--", "worker.py", "--strategy", "one"], "--strategy one trains in one process"),
    ],
)
def test_bad_flags_are_one_line(command, tmp_path, words, message):
    first = command()[:2]
    done = subprocess.run(
        [*first, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["worker.py"]
