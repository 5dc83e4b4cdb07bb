"""Checkpoints of a run: written whole or not at all, the last ones and the best one kept."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError
from tfllm.training.workers import Workers

__all__ = ["Checkpoints"]

_STATE = "state.json"
# What the chief tells the others in place of a step.
_NONE, _UNREADABLE = -1, -2
# What TensorFlow and JSON raise for files that were cut off, emptied or overwritten.
_DAMAGE = (OSError, ValueError, IndexError, RuntimeError, AssertionError, tf.errors.OpError)


class Checkpoints:
    """Saves and restores a compiled model and what its callbacks must remember.

    Each checkpoint is a folder `step-N`, written under a hidden name and renamed when whole:
    weights and optimizer as TensorFlow writes them, and `state.json`. `best-N` is one more such
    folder. Dropout and data order need no place in it: both are functions of the step.

    Of several workers, which share the folder, the chief alone writes; all restore what the chief
    restores.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        *,
        keep: int = 2,
        identity: Mapping[str, str] | None = None,
        workers: Workers | None = None,
    ) -> None:
        """Look at a folder; it is made with the first checkpoint.

        Args:
            folder: a run's `checkpoints`.
            model: compiled, so that its optimizer is saved too.
            keep: how many of the last ones are kept.
            identity: name → value that a checkpoint must have been saved with to be restored.
            workers: those that train the model; None for this process alone.
        """
        self.folder = folder
        self.keep = keep
        self._identity = dict(identity or {})
        self._workers = workers or Workers(tf.distribute.get_strategy())
        self._model = model
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)

    def save(self, state: dict[str, Any]) -> Path:
        """Write `step-N` for the optimizer's step N, and drop the oldest beyond `keep`."""
        path = self._write(self._name(self.step()), state)
        for old in self._named("step-*")[: -self.keep]:
            self._drop(old)
        return path

    def save_best(self, state: dict[str, Any]) -> Path:
        """Write `best-N`, then drop the best before it."""
        path = self._write(f"best-{self.step():09d}", state)
        for old in self._named("best-*"):
            if old != path:
                self._drop(old)
        return path

    def restore_latest(self) -> dict[str, Any] | None:
        """Load the newest checkpoint that can be read, and return its state; None without one.

        A damaged one is set aside, hidden, for the one before. All workers call this together.

        Raises:
            InputError: if there are checkpoints and none can be read, the newest is of another
                identity, or a worker can't read what the chief reads.
        """
        if not self._workers.is_chief:
            return self._restore_what_the_chief_has()
        try:
            state = self._newest()
        except InputError:
            self._workers.from_chief(_UNREADABLE)
            raise
        if self._workers.from_chief(_NONE if state is None else self.step()) != _NONE:
            self._see_that_all_have(self.folder / self._name(self.step()), True)
        return state

    def _restore_what_the_chief_has(self) -> dict[str, Any] | None:
        step = int(self._workers.from_chief(0))
        if step == _UNREADABLE:
            raise InputError("the chief worker can't go on from its checkpoints; see its line")
        if step == _NONE:
            return None
        path = self.folder / self._name(step)
        state = self._read(path)
        self._see_that_all_have(path, state is not None)
        return state

    def _see_that_all_have(self, path: Path, has: bool) -> None:
        without = self._workers.without(has)
        if without:
            raise InputError(
                f"worker {without[0]} of {self._workers.count} can't read {path}, from which the "
                "chief goes on. Give all workers the same --run_dir, on a disk that they share"
            )

    def _newest(self) -> dict[str, Any] | None:
        for left_over in self._named(".step-*") + self._named(".best-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        found = self._named("step-*")
        for path in reversed(found):
            state = self._read(path)
            if state is not None:
                self._compare(state, path)
                return state
            path.rename(path.with_name(f".damaged-{path.name}"))
            print(f"The checkpoint {path} is damaged; trying the one before it.", flush=True)
        if found:
            raise InputError(
                f"none of the {len(found)} checkpoints in {self.folder} can be read. "
                "Start again in a new --run_dir"
            )
        return None

    def _compare(self, state: dict[str, Any], path: Path) -> None:
        saved = state.get("identity", {})
        for name, value in self._identity.items():
            if saved.get(name) != value:
                raise InputError(
                    f"{path} was trained with another {name}: {saved.get(name)!r}, and now it is "
                    f"{value!r}. Give what it was trained with, or a new --run_dir"
                )

    def restore_best(self) -> dict[str, Any] | None:
        """Load the best checkpoint and return its state; None without one.

        All workers call this together.
        """
        self._workers.wait()  # until the chief has written it
        best = self._named("best-*")
        return self._read(best[-1]) if best else None

    def step(self) -> int:
        """Return the number of optimizer steps taken."""
        return int(self._model.optimizer.iterations.numpy())

    @staticmethod
    def _name(step: int) -> str:
        return f"step-{step:09d}"

    def _drop(self, path: Path) -> None:
        if self._workers.is_chief:
            shutil.rmtree(path, ignore_errors=True)

    def _named(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(pattern) if path.is_dir())

    def _write(self, name: str, state: dict[str, Any]) -> Path:
        target = self.folder / name
        if not self._workers.is_chief:
            return target
        hidden = self.folder / f".{name}-{uuid.uuid4().hex[:8]}"
        try:
            hidden.mkdir(parents=True)
            self._checkpoint.write(str(hidden / "weights"))
            with (hidden / _STATE).open("w", encoding="utf-8") as file:
                json.dump(state | {"step": self.step(), "identity": self._identity}, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(target, ignore_errors=True)
            hidden.rename(target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        return target

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
            status = self._checkpoint.read(str(path / "weights"))
            status.assert_existing_objects_matched()
        except _DAMAGE:
            return None
        return state
