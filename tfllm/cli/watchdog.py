"""Notices that a group of workers does nothing any more."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tfllm.cli.worker_process import WorkerProcess

__all__ = ["Watchdog"]

_LEAST_SHARE = 0.02


class Watchdog:
    """Tells workers that wait for one another for ever from workers that work.

    A sign of life is a line of output, or use of a fiftieth of a core and worker. TensorFlow's
    workers wait in the kernel: seven of a cluster whose eighth is stuck use almost nothing. One
    stuck worker stops all, so signs are counted over all of them. What computes without end
    is not noticed.
    """

    def __init__(self, workers: Sequence[WorkerProcess], seconds: float) -> None:
        """Start the clock.

        Args:
            workers: just started.
            seconds: without a sign of life after which they hang; 0 for never.
        """
        self._workers = workers
        self._seconds = seconds
        self._next_look = 0.0
        self._mark = self._now()

    def hangs(self) -> bool:
        """Look, as often as you like."""
        if not self._seconds or time.monotonic() < self._next_look:
            return False
        # All processes of the machine are looked through: not too often.
        self._next_look = time.monotonic() + self._seconds / 20
        then, lines, cpu = self._mark
        now = self._now()
        used = now[2] - cpu
        if now[1] != lines or used > _LEAST_SHARE * self._seconds * len(self._workers):
            self._mark = now
            return False
        return now[0] - then > self._seconds

    def _now(self) -> tuple[float, int, float]:
        groups = {worker.group for worker in self._workers}
        lines = sum(worker.lines for worker in self._workers)
        return time.monotonic(), lines, _cpu_seconds(groups)


def _cpu_seconds(groups: set[int]) -> float:
    """Time on a core of all processes of some process groups, since each began."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which may hold anything: state, parent, group, …
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if fields and int(fields[2]) in groups:
            ticks += sum(int(field) for field in fields[11:15])  # its own, its children's
    return ticks / os.sysconf("SC_CLK_TCK")
