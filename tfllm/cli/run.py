"""One run of a recipe: its folder and its record."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from tfllm.cli.common_config import CommonConfig
from tfllm.cli.run_directory import FINISHED, UNFINISHED, check_writable, choose_directory
from tfllm.cli.worker import is_chief
from tfllm.errors import InputError

__all__ = ["Run"]

_LOCK = ".lock"
_VERSIONED = ("tfllm", "tensorflow", "tensorflow-text", "tf-keras", "transformers", "tokenizers")


class Trained(Protocol):
    """What a training run says of itself; see `tfllm.training.Trained`."""

    @property
    def best(self) -> dict[str, float]:
        """What was measured on validation with the weights that are kept."""
        ...

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of this process."""
        ...

    @property
    def skipped_steps(self) -> int:
        """Steps that were not finite."""
        ...

    @property
    def peak_bytes(self) -> int:
        """Most memory."""
        ...


class Run:
    """One run: its folder, what it prints, and the record that it leaves.

    Attributes:
        config: the recipe's.
        recipe: the recipe's name.
        is_chief: False in all workers of one run but the first. The chief alone writes into the
            run folder, prints and exports; the others leave the recipe before its export.
        directory: the run folder; nothing is in it before `open`.
        metrics: name → number, for `run.json`.
        timing: name → seconds.
        throughput: tokens per second of training, or None.
        versions: of what measured a number, beside those of the packages: a metric's signature.
        export: the bundle's path, or None.
    """

    def __init__(self, config: CommonConfig, recipe: str) -> None:
        """Choose the run folder without touching it.

        Raises:
            InputError: if the folder can't be made, holds a run that can't be continued, or is
                left open for several workers.
        """
        self.config = config
        self.recipe = recipe
        self.metrics: dict[str, float] = {}
        self.timing: dict[str, float] = {}
        self.throughput: float | None = None
        self.versions: dict[str, str] = {}
        self.export: str | None = None
        self.is_chief = is_chief(config)
        if self.is_chief:
            check_writable(Path(config.export_dir), "export_dir")
            self.directory = choose_directory(config, recipe)
        else:
            self.directory = Path(config.run_dir or "")
        self._lock: IO[str] | None = None
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line for the person who watches; `main` silences all workers but the chief."""
        print(text, flush=True)

    def add(self, trained: Trained) -> None:
        """Take what training measured into the record."""
        self.throughput = trained.tokens_per_second
        self.metrics |= trained.best
        self.metrics["skipped_steps"] = trained.skipped_steps
        self.metrics["peak_memory_mib"] = trained.peak_bytes / 2**20

    def add_data(self, name: str, counts: Mapping[str, int]) -> None:
        """Say what the training data holds, and take it into the record."""
        self.metrics |= {f"train_{counted}": count for counted, count in counts.items()}
        self.say(f"Data {name}: {', '.join(f'{what} {n:,}' for what, n in counts.items())}.")

    def try_out(
        self, first_row: str, publish: Callable[[str], object], estimate: Callable[[], str]
    ) -> None:
        """Show what a run would do, for `--dry_run`: a row, an export, and what it will take.

        Args:
            first_row: the first row of the first batch, as text.
            publish: exports the untrained model into a folder, which is thrown away.
            estimate: takes the first steps, and says how long all would take.
        """
        self.say(f"First row: {first_row!r}")
        with tempfile.TemporaryDirectory() as folder:
            publish(folder)
        self.say("The untrained model exports, and its bundle answers as the model does.")
        self.say(f"{estimate()}.")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that a block takes to `timing`."""
        start = time.monotonic()
        yield
        self.timing[name] = self.timing.get(name, 0.0) + round(time.monotonic() - start, 3)

    def open(self) -> Path:
        """Make the run folder, take it, and note the configuration in it for a later resume.

        Of several workers the chief does.

        Raises:
            InputError: if it can't be written, or a live process has it.
        """
        if not self.is_chief:
            return self.directory
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self.directory / _LOCK).open("w")
            try:
                # The kernel lets go of it when the process ends, whichever way.
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"the run folder {self.directory} is in use by a live process. Wait for it, or "
                    "give another --run_dir"
                ) from None
            _write_json(self.directory / UNFINISHED, dataclasses.asdict(self.config))
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        return self.directory

    def finish(self) -> None:
        """Write `run.json` and print the same object as the last line, if this is the chief."""
        if not self.is_chief:
            return
        self.timing["total"] = round(time.monotonic() - self._start, 3)
        record = {
            "config": dataclasses.asdict(self.config) | {"run_dir": str(self.directory)},
            "metrics": self.metrics,
            "timing": self.timing,
            "throughput": self.throughput,
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONED}
            | {"python": ".".join(map(str, sys.version_info[:3]))}
            | self.versions,
            "export": self.export,
        }
        if not self.config.dry_run:
            _write_json(self.directory / FINISHED, record)
            self._say_end()
        print(json.dumps(record, ensure_ascii=False, allow_nan=False), flush=True)

    def _say_end(self) -> None:
        """Say in words what the record says in one long line."""
        test = [(n, v) for n, v in self.metrics.items() if n.startswith("test_")]
        if test:
            self.say("Test: " + ", ".join(f"{name[5:]} {value:.4g}" for name, value in test) + ".")
        self.say(f"The run is in {self.directory}.")


def _write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a hidden name and rename it when it is whole."""
    hidden = path.parent / f".{path.name}-{uuid.uuid4().hex[:8]}"
    try:
        with hidden.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
    finally:
        hidden.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be written: {error.strerror or error}. Give another --run_dir")
