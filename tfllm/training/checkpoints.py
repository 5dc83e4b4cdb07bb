"""Checkpoints of a run: written whole or not at all, the last ones and the best one kept."""

from __future__ import annotations

import functools
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError
from tfllm.training.background import Background
from tfllm.training.snapshot import Snapshot
from tfllm.training.step import SummedLossModel
from tfllm.training.workers import Workers

__all__ = ["Checkpoints"]

_STATE, _WEIGHTS = "state.json", "weights"
# Before the name of what is being replaced.
_OLD = ".old-"
# What the chief tells the others in place of a step.
_NONE, _UNREADABLE = -1, -2
# What TensorFlow and JSON raise for files that were cut off, emptied or overwritten.
_DAMAGE = (OSError, ValueError, IndexError, RuntimeError, AssertionError, tf.errors.OpError)


class Checkpoints:
    """Saves and restores a compiled model and what its callbacks must remember.

    Each checkpoint is a folder `step-N`, written under a hidden name and renamed when whole:
    weights and optimizer as `Snapshot` writes them, and `state.json`. `best-N` is one more such
    folder; where the disk can, the two share their files. Dropout and data order need no place in
    it: both are functions of the step.

    Training goes on while files are written, one checkpoint at a time. Within a `with` they are
    whole when it ends. An error of writing, such as a full disk, is raised by the next call that
    saves, waits or restores.

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
        """Look at a folder, which is made with the first checkpoint, and build the optimizer.

        All workers call this together.

        Args:
            folder: a run's `checkpoints`.
            model: built, and compiled, so that its optimizer is saved too.
            keep: how many of the last ones are kept.
            identity: name → value that a checkpoint must have been saved with to be restored.
            workers: those that train the model; None for this process alone.

        Raises:
            ValueError: if the model has no variables yet.
        """
        # Variables are made by all workers together, so not where the chief alone saves.
        _build_optimizer(model)
        self.folder = folder
        self.keep = keep
        self._identity = dict(identity or {})
        self._workers = workers or Workers(tf.distribute.get_strategy())
        self._model = model
        self._background = Background()

    def __enter__(self) -> Checkpoints:
        """Save within."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait; an error of writing does not take the place of the one that is on its way."""
        try:
            self.wait()
        except Exception:
            if error is None:
                raise

    def start_saving(self, state: dict[str, Any], *, best: bool = False) -> Path:
        """Take `step-N` of the optimizer's step N; its files are written while training goes on.

        Then the oldest beyond `keep` are dropped. If the checkpoint before is still being
        written, this waits for it.

        Args:
            state: what JSON can hold, given back by `restore_latest` and `restore_best`.
            best: write `best-N` as well, before `step-N`, and drop the best before it.

        Returns:
            where it will be.
        """
        path = self.folder / self._name(self.step())
        if self._workers.is_chief:
            self._background.wait()  # before the snapshot: there is memory for one
            snapshot = Snapshot(self._model)
            own = {"step": snapshot.step, "identity": self._identity}
            if isinstance(self._model, SummedLossModel):
                own["skipped"] = self._model.skipped_counts
            text = json.dumps(state | own)
            self._background.start(functools.partial(self._write, snapshot, text, best))
        return path

    def save(self, state: dict[str, Any]) -> Path:
        """Write `step-N`, whole when this returns."""
        path = self.start_saving(state)
        self.wait()
        return path

    def wait(self) -> None:
        """Return when nothing is being written; raises what writing raised."""
        self._background.wait()

    def restore_latest(self) -> dict[str, Any] | None:
        """Load the newest checkpoint that can be read, and return its state; None without one.

        A damaged one is set aside, hidden, for the one before. All workers call this together.

        Raises:
            InputError: if there are checkpoints and none can be read, the newest is of another
                identity, or a worker can't read what the chief reads.
        """
        if not self._workers.is_chief:
            return self._restore_what_the_chief_has()
        self.wait()
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
        self._clear_up()
        found = self._named("step-*")
        for path in reversed(found):
            state = self._read(path)
            if state is not None:
                self._compare(state, path)
                return state
            aside = path.with_name(f".damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            print(f"The checkpoint {path} is damaged; trying the one before it.", flush=True)
        if found:
            raise InputError(
                f"none of the {len(found)} checkpoints in {self.folder} can be read. "
                "Start again in a new --run_dir"
            )
        return None

    def _clear_up(self) -> None:
        """Finish or undo what a killed process had begun."""
        for old in self._named(f"{_OLD}*"):
            target = old.with_name(old.name.removeprefix(_OLD))
            if not target.exists():
                old.rename(target)
        hidden = [path for kind in (_OLD, ".step-", ".best-") for path in self._named(f"{kind}*")]
        for left_over in hidden + self._named("best-*")[:-1]:
            shutil.rmtree(left_over, ignore_errors=True)

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
        self.wait()
        self._workers.wait()  # until the chief has written it
        best = self._named("best-*")
        return self._read(best[-1]) if best else None

    def step(self) -> int:
        """Return the number of optimizer steps taken."""
        return int(self._model.optimizer.iterations.numpy())

    @staticmethod
    def _name(step: int) -> str:
        return f"step-{step:09d}"

    def _named(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(pattern) if path.is_dir())

    def _write(self, snapshot: Snapshot, state: str, best: bool) -> None:
        path: Path | None = None
        for kind in ("best", "step") if best else ("step",):
            path = self._write_one(f"{kind}-{snapshot.step:09d}", snapshot, state, twin=path)
        dropped = self._named("step-*")[: -self.keep]
        if best:
            dropped += [p for p in self._named("best-*") if p.name != f"best-{snapshot.step:09d}"]
        for old in dropped:
            shutil.rmtree(old, ignore_errors=True)

    def _write_one(self, name: str, snapshot: Snapshot, state: str, twin: Path | None) -> Path:
        """Write a folder; `twin` is one with the same weights, if there is any."""
        target = self.folder / name
        hidden = self.folder / f".{name}-{uuid.uuid4().hex[:8]}"
        try:
            hidden.mkdir(parents=True)
            if twin is None or not _link_weights(twin, hidden):
                snapshot.write(hidden / _WEIGHTS)
            (hidden / _STATE).write_text(state, encoding="utf-8")
            for path in (*hidden.iterdir(), hidden):
                _sync(path)
            self._replace(target, hidden)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        return target

    def _replace(self, target: Path, hidden: Path) -> None:
        # The old one goes when the new one is there: it may be the only one.
        old = target.with_name(f"{_OLD}{target.name}")
        if target.exists():
            target.rename(old)
        hidden.rename(target)
        _sync(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
            Snapshot.restore(self._model, path / _WEIGHTS)
            if isinstance(self._model, SummedLossModel):
                self._model.skipped_counts = state.get("skipped", (0, 0))
        except InputError:
            raise
        except _DAMAGE:
            return None
        return state


def _build_optimizer(model: keras.Model) -> None:
    if not model.weights:
        raise ValueError(f"a model must be built before it is saved or restored. Received: {model}")
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    # Keras's legacy optimizers call it otherwise.
    build = getattr(optimizer, "build", None) or optimizer._create_all_weights
    with model.distribute_strategy.scope():
        build(model.trainable_variables)


def _link_weights(source: Path, folder: Path) -> bool:
    """Give weights a second name; False where the disk knows no such thing."""
    try:
        for path in source.glob(f"{_WEIGHTS}.*"):
            os.link(path, folder / path.name)
    except OSError:
        for path in folder.iterdir():
            path.unlink()
        return False
    return True


def _sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
