"""Work that is done beside training, one job after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Background"]


class Background:
    """Runs a job in a thread of its own, and its error goes to who waits for it.

    There is at most one job at a time. Python ends only when it has ended, so that what is half
    done becomes whole unless the process is killed.
    """

    def __init__(self) -> None:
        """Have nothing to do."""
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, job: Callable[[], object]) -> None:
        """Wait for the job before, then begin this one and return.

        Raises:
            Exception: what the job before raised; then this one is not begun.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing runs.

        Raises:
            Exception: what the job raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            self._error = error
