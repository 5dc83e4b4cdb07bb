"""What a person sees while a model trains."""

from __future__ import annotations

import sys
import time
from typing import Any

import tf_keras as keras
from tqdm import tqdm

__all__ = ["Progress"]

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_LOOKS = 0.5


class Progress(keras.callbacks.Callback):
    """A bar with loss, learning rate, tokens per second and time left, within a `with`.

    Where stdout is no terminal, a plain line every 15 seconds instead. Lines that are printed
    meanwhile belong above the bar: use `tqdm.write`.

    Attributes:
        tokens_per_second: over all training steps of this process but its first, whose time goes
            into building the graph; None before the second.
    """

    def __init__(self, *, first_step: int, total_steps: int, tokens_per_step: int) -> None:
        """Prepare.

        Args:
            first_step: optimizer steps taken before.
            total_steps: at the end.
            tokens_per_step: positions of one global batch.
        """
        super().__init__()
        self._supports_tf_logs = True
        self._step = first_step
        self._total = total_steps
        self._tokens = tokens_per_step
        self._bar: tqdm | None = None
        self._looked_at = self._printed_at = 0.0
        self._first_step_done = False
        self._timed_steps = 0
        self._timed_seconds = 0.0
        self._before = 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Positions trained on per second, validation and saving left out."""
        if not self._timed_seconds:
            return None
        return self._timed_steps * self._tokens / self._timed_seconds

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock of the epoch's first step."""
        self._before = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move on."""
        now = time.monotonic()
        # The first step of the process builds the graph and is no measure of speed.
        if self._first_step_done:
            self._timed_steps += 1
            self._timed_seconds += now - self._before
        self._first_step_done = True
        self._before = now
        self._step += 1
        if self._bar is not None:
            self._bar.update()
        if now - self._looked_at >= _SECONDS_BETWEEN_LOOKS:
            self._looked_at = now
            self._show(logs or {}, now)

    def _show(self, logs: dict[str, Any], now: float) -> None:
        rate = float(self.model.optimizer.learning_rate.numpy())
        facts = f"loss {float(logs['loss']):.3f}  lr {rate:.2e}"
        if "gradient_norm" in logs:
            facts += f"  norm {float(logs['gradient_norm']):.2f}"
        if int(logs.get("skipped", 0)):
            facts += f"  skipped {int(logs['skipped'])}"
        speed = self.tokens_per_second
        if speed:
            facts += f"  {speed:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.set_postfix_str(facts)
        elif now - self._printed_at >= _SECONDS_BETWEEN_LINES:
            self._printed_at = now
            if speed:
                left = (self._total - self._step) * self._tokens / speed
                facts += f"  {left:.0f} s left"
            print(f"step {self._step}/{self._total}  {facts}", flush=True)

    def __enter__(self) -> Progress:
        """Draw the bar."""
        if sys.stdout.isatty():
            self._bar = tqdm(
                total=self._total, initial=self._step, unit="step", dynamic_ncols=True, leave=False
            )
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
