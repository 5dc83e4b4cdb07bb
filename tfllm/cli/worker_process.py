"""One worker of a run, as the launcher holds it: started, listened to, ended for sure."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["WorkerProcess"]

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
# TensorFlow's server says these whatever the log level.
_NOISE = re.compile(r"WARNING: All log messages before absl::InitializeLog|I\d{4} \d\d:\d\d:\d")
_writing = threading.Lock()


class WorkerProcess:
    """A command in a process group of its own, whose lines are passed on with a number before.

    A line that holds a recipe's record (a JSON object) is passed on as it is, so that the
    record stays the last line on stdout. A line `error: …` is kept for `take_error`, until `end`.

    Attributes:
        index: the worker's number.
        lines: how many lines it has printed.
    """

    def __init__(self, command: Sequence[str], index: int, environment: Mapping[str, str]) -> None:
        """Start the command.

        Args:
            command: the program's path and its arguments.
            index: the worker's number.
            environment: variables to set besides those of this process.
        """
        self.index = index
        self.lines = 0
        self._error: str | None = None
        guard = [sys.executable, str(_DIE_WITH_PARENT), str(os.getpid())]
        self._process = subprocess.Popen(
            [*guard, *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._listeners = [
            threading.Thread(target=self._pass_on, args=streams, daemon=True)
            for streams in (
                (self._process.stdout, sys.stdout),
                (self._process.stderr, sys.stderr),
            )
        ]
        for listener in self._listeners:
            listener.start()

    @property
    def group(self) -> int:
        """Number of the process group: of the worker and all processes that it started."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return how it ended, minus the signal's number if a signal did it; None if it runs.

        It stays a zombie until `end`, so that its group's number can't become another's.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        ended = os.waitid(os.P_PID, self._process.pid, flags)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def send(self, number: int) -> None:
        """Send a signal to the worker, not to what it started."""
        if self.exit_code() is None:
            os.kill(self._process.pid, number)

    def end(self) -> None:
        """Kill the worker and all that it started, and wait until they are gone."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
            self._process.wait()
        for listener in self._listeners:
            listener.join(timeout=5)
        error = self.take_error()
        if error:
            self._print(error, sys.stderr)

    def take_error(self) -> str | None:
        """Return its last line that began with `error: `, once; None without one."""
        error, self._error = self._error, None
        return error

    def __str__(self) -> str:
        """Say how it is."""
        code = self.exit_code()
        if code is None:
            return f"worker {self.index} runs"
        if code < 0:
            return f"worker {self.index} was killed by {signal.Signals(-code).name}"
        return f"worker {self.index} ended with exit code {code}"

    def _pass_on(self, source: IO[str], target: IO[str]) -> None:
        with source:
            for line in source:
                self.lines += 1
                if line.startswith("error: "):
                    self._error = line.rstrip("\n")
                elif not _NOISE.match(line):
                    self._print(line, target)

    def _print(self, line: str, target: IO[str]) -> None:
        start = "" if line.startswith('{"') else f"[{self.index}] "
        # Whoever reads may have gone; the worker must not block on a full pipe for that.
        with _writing, contextlib.suppress(BrokenPipeError):
            print((start + line).rstrip(), file=target, flush=True)
