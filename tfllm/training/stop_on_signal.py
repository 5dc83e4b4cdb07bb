"""Ctrl-C and SIGTERM end the step that runs, and training after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import tf_keras as keras

__all__ = ["StopOnSignal"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(keras.callbacks.Callback):
    """A callback and a context manager: within it, a signal asks training to stop.

    A second signal does what it did before, so a stuck step can still be broken off. Outside the
    main thread Python allows no handlers, and nothing is caught.

    Attributes:
        signal_number: the signal that came, to this worker or another, or None.
    """

    def __init__(self, agree: Callable[[int], int] = int) -> None:
        """Wait for a signal.

        Args:
            agree: number of the signal that came to this worker, or 0 → the number that all
                workers go by.
        """
        super().__init__()
        # Keras copies every step's results to NumPy for callbacks that do not say this.
        self._supports_tf_logs = True
        self.signal_number: int | None = None
        self._agree = agree
        self._came = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number
        signal.signal(number, self._before[number])

    def look(self) -> int | None:
        """Agree with the other workers on whether a signal came; all must call this together."""
        self.signal_number = self._agree(self._came) or None
        return self.signal_number

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop after this step if a signal came."""
        if self.look() is not None:
            self.model.stop_training = True
