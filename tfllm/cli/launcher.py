"""Several workers of one recipe on this machine: started, watched, and started again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from tfllm.cli.watchdog import Watchdog
from tfllm.cli.worker_process import WorkerProcess
from tfllm.errors import InputError

__all__ = ["Launcher"]

_BAD_INPUT = 2
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_SECONDS_BETWEEN_LOOKS = 0.1
# Workers that were given the same bad input say so within this time of each other.
_SECONDS_TO_SETTLE = 1.0


class Launcher:
    """Runs a recipe in N processes that train one model.

    When a worker dies, or all are silent for long, all are killed and started again; they go on
    from the last checkpoint. A worker that refuses its input, and one that was asked to stop, end
    the whole for good. No process outlives `run`, or this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        workers: int,
        max_restarts: int = 3,
        hang_seconds: float = 600.0,
        grace_seconds: float = 120.0,
    ) -> None:
        """Prepare.

        Args:
            command: a recipe's path and its flags, the same for all workers.
            workers: how many.
            max_restarts: how often all are started again.
            hang_seconds: see `Watchdog`.
            grace_seconds: how long workers may take to save and end after Ctrl-C or SIGTERM.

        Raises:
            InputError: if there is no such recipe, its flags ask for a single process, or the GPUs
                can't be shared out evenly.
        """
        if not command or not Path(command[0]).is_file():
            raise InputError(
                f"there is no recipe {command[0]}. Give the path of one after --"
                if command
                else "give a recipe and its flags after --, for example: --workers 2 -- "
                "recipes/pretrain_causal_lm.py --run_dir runs/mine"
            )
        alone = re.search(r"--strategy[ =](one|mirrored)\b", " ".join(command))
        if alone:
            raise InputError(f"{alone[0]} trains in one process. Leave it out, or start the recipe")
        self._command = [sys.executable, *command]
        self._count = workers
        self._gpus = _share_out_gpus(workers)
        self._max_restarts = max_restarts
        self._hang_seconds = hang_seconds
        self._grace_seconds = grace_seconds
        self._signals: list[int] = []

    def run(self) -> int:
        """Start and watch until all is done; return the exit code.

        Returns:
            0 if all workers ended well, 2 for bad input, 130 or 143 if they were stopped, 1 if
            restarts did not help.
        """
        with self._noting_signals():
            for restarts in range(self._max_restarts + 1):
                reason = self._try()
                if isinstance(reason, int):
                    return reason
                if restarts < self._max_restarts:
                    _say(
                        f"{reason}: starting all workers again, from the last checkpoint if there "
                        f"is one (restart {restarts + 1} of {self._max_restarts})"
                    )
        _say(
            f"error: {reason}, and the {self._max_restarts} restarts of --max_restarts are used "
            "up. The same command goes on from the last checkpoint"
        )
        return 1

    def _try(self) -> int | str:
        """Start all workers once: the exit code, or why they must be started again."""
        ports = _free_ports(self._count)
        workers: list[WorkerProcess] = []
        try:
            for index in range(self._count):
                environment = self._gpus[index] | {"TF_CONFIG": _tf_config(ports, index)}
                workers.append(WorkerProcess(self._command, index, environment))
            return self._watch(workers)
        finally:
            for worker in workers:
                worker.end()

    def _watch(self, workers: Sequence[WorkerProcess]) -> int | str:
        watchdog = Watchdog(workers, self._hang_seconds)
        while True:
            if self._signals:
                return self._stop(workers)
            codes = [worker.exit_code() for worker in workers]
            if _BAD_INPUT in codes:
                return _refuse(workers)
            stopped = [code for code in codes if code in _STOPPED]
            if stopped or codes[0] == 0:
                # Where the chief is done, all is: the others have nothing left to write.
                self._wait(workers)
                return stopped[0] if stopped else 0
            dead = [worker for worker, code in zip(workers, codes, strict=True) if code]
            if dead:
                return str(dead[0])
            if watchdog.hangs():
                return f"no worker has given a sign of life for {self._hang_seconds:g} seconds"
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _stop(self, workers: Sequence[WorkerProcess]) -> int:
        """Pass a signal on, and wait until the workers have saved."""
        number = self._signals[0]
        for worker in workers:
            worker.send(number)
        self._wait(workers)
        return 128 + number

    def _wait(self, workers: Sequence[WorkerProcess]) -> None:
        """Wait for all workers to end; not longer than the grace, or until one more signal."""
        before = len(self._signals)
        deadline = time.monotonic() + self._grace_seconds
        while any(worker.exit_code() is None for worker in workers):
            if any(worker.exit_code() not in (None, 0, *_STOPPED) for worker in workers):
                break  # the others would wait for it
            if time.monotonic() > deadline or len(self._signals) > before:
                _say("not all workers have ended: killing them. The last checkpoint is whole")
                break
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    @contextlib.contextmanager
    def _noting_signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _refuse(workers: Sequence[WorkerProcess]) -> int:
    """Show why, once: what the first worker says that says anything."""
    time.sleep(_SECONDS_TO_SETTLE)
    lines = [line for line in [worker.take_error() for worker in workers] if line]
    _say(lines[0] if lines else "error: a worker refused its input; see its lines above")
    return _BAD_INPUT


def _tf_config(ports: Sequence[int], index: int) -> str:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _share_out_gpus(workers: int) -> list[dict[str, str]]:
    """Give each worker GPUs of its own, by the variable that CUDA reads; none where none are."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        found = Path("/proc/driver/nvidia/gpus")
        gpus = [str(i) for i in range(len(list(found.iterdir())))] if found.is_dir() else []
    else:
        gpus = [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    if not gpus:
        return [{} for _ in range(workers)]
    if len(gpus) % workers:
        raise InputError(
            f"{len(gpus)} GPU(s) can't be shared out evenly to --workers {workers}. Set "
            "CUDA_VISIBLE_DEVICES to a multiple of them, or to nothing for the CPU"
        )
    share = len(gpus) // workers
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * share : (i + 1) * share])}
        for i in range(workers)
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
