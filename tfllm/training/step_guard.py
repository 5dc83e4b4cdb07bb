"""Watching a run for steps that are not finite and losses that jump."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from tfllm.errors import InputError

__all__ = ["StepGuard"]

_REMEMBERED_LOSSES = 200
_LEAST_LOSSES = 20
_DEVIATIONS = 6.0
_ROWS_SHOWN = 8


class StepGuard(keras.callbacks.Callback):
    """Says which step's loss jumped, and ends a run whose steps are no longer finite.

    A loss jumps if it is above the running median by more than six median absolute deviations of
    the last 200 steps of its task. The step itself skips what is not finite (`SummedLossModel`);
    after too many in a row the batch of the newest is saved and training ends.

    Losses are read a few steps late, together, so that a GPU is not made to wait at each step.

    Attributes:
        skipped: steps without effect.
        jumps: steps whose loss jumped.
    """

    def __init__(
        self,
        batches: Callable[[int, int], tf.data.Dataset],
        folder: Path | None,
        *,
        most_in_a_row: int = 10,
        every: int = 10,
        rows_of: Callable[[int], Iterable[int | str]] | None = None,
        task_of: Callable[[int], str] | None = None,
    ) -> None:
        """Prepare.

        Args:
            batches: (first step, number of steps) → dataset, to get a bad batch once more.
            folder: the bad batch is written into it; None for workers that write nothing.
            most_in_a_row: skipped steps after which training ends.
            every: optimizer steps between two looks.
            rows_of: step → ids of the rows it read, for messages.
            task_of: step → its task, where several take turns.
        """
        super().__init__()
        self._supports_tf_logs = True
        self._batches = batches
        self._folder = folder
        self._most_in_a_row = most_in_a_row
        self._every = every
        self._rows_of = rows_of
        self._task_of = task_of
        self._losses: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=_REMEMBERED_LOSSES)
        )
        self._unread: list[tuple[int, Any]] = []
        self._newest: dict[str, Any] = {}
        self._step = 0
        self.skipped = 0
        self.jumps = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count from the optimizer's step."""
        self._step = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look if it is time."""
        self._newest = logs or {}
        self._unread.append((self._step, self._newest.get("step_loss")))
        self._step += 1
        if len(self._unread) >= self._every:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the rest."""
        self._look()

    def _look(self) -> None:
        for step, loss in self._unread:
            self._compare(step, float("nan") if loss is None else float(loss))
        self._unread.clear()
        if "skipped" not in self._newest:  # trained with a Keras loss, which skips nothing
            return
        self.skipped = int(self._newest["skipped"])
        if int(self._newest["skipped_in_a_row"]) >= self._most_in_a_row:
            self._end(self._step - 1)

    def _compare(self, step: int, loss: float) -> None:
        if not np.isfinite(loss):
            return
        losses = self._losses["" if self._task_of is None else self._task_of(step)]
        if len(losses) >= _LEAST_LOSSES:
            median = float(np.median(losses))
            deviation = float(np.median(np.abs(np.array(losses) - median)))
            # Where losses hardly differ, a hundredth of the median is no jump.
            if loss > median + max(_DEVIATIONS * deviation, 0.01 * abs(median)):
                self.jumps += 1
                tqdm.write(
                    f"Step {step + 1}: loss {loss:.3f} jumped above the running median "
                    f"{median:.3f}{self._rows_text(step)}"
                )
        losses.append(loss)

    def _rows_text(self, step: int) -> str:
        if self._rows_of is None:
            return ""
        rows = list(self._rows_of(step))
        more = f" and {len(rows) - _ROWS_SHOWN} more" if len(rows) > _ROWS_SHOWN else ""
        return f"; rows {', '.join(str(row) for row in rows[:_ROWS_SHOWN])}{more}"

    def _end(self, step: int) -> None:
        path = self._save_batch(step) if self._folder else "the chief's run folder"
        raise InputError(
            f"training ended at step {step + 1}: loss or gradients of the last "
            f"{self._most_in_a_row} steps were not finite. The newest batch is in {path}"
            f"{self._rows_text(step)}. Look at it, or give a lower --learning_rate and a new "
            "--run_dir"
        )

    def _save_batch(self, step: int) -> Path:
        assert self._folder is not None
        features, targets, weights = next(iter(self._batches(step, 1).as_numpy_iterator()))
        arrays: dict[str, Any] = _flat("features", features, whole_name=False)
        arrays |= _flat("targets", targets) | _flat("weights", weights)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"bad-batch-step-{step + 1}.npz"
        hidden = path.with_name(f".{path.name}")
        np.savez(hidden, **arrays)
        hidden.rename(path)
        return path


def _flat(name: str, given: Any, *, whole_name: bool = True) -> dict[str, Any]:
    """Name the arrays of a batch's part: `targets`, or `targets_masked_lm` of a dictionary."""
    if not isinstance(given, Mapping):
        return {name: given}
    return {f"{name}_{key}" if whole_name else key: array for key, array in given.items()}
