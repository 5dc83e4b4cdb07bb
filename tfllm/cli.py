"""What every recipe has in common: flags, exit codes, the run's folder and its record.

Importing this imports no TensorFlow, so that `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import importlib.metadata
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal, NoReturn, TypeVar

from tfllm.errors import InputError, Interrupted

__all__ = ["CommonConfig", "Run", "main", "require"]

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
StrategyName = Literal["auto", "one", "mirrored", "multi_worker"]

_UNFINISHED = "config.json"
_LOCK = ".lock"
_FINISHED = "run.json"
# Flags that may differ between a run and its continuation.
_FREE = {"run_dir", "resume", "export_dir", "export_name", "dry_run"}
_VERSIONED = ("tfllm", "tensorflow", "tensorflow-text", "tf-keras", "transformers", "tokenizers")


@dataclasses.dataclass(frozen=True)
class CommonConfig:
    """The flags that all recipes share. A recipe's Config inherits them and adds its own."""

    train: tuple[str, ...] = ()
    """Training data: paths, or globs in quotes."""
    validation: tuple[str, ...] = ()
    """Validation data: paths, or globs in quotes. Without it, --train is split by a hash."""
    test: tuple[str, ...] = ()
    """Test data, scored once at the end with the best weights."""
    validation_fraction: float = 0.05
    """Share of the documents held out where --validation is not given, between 0 and 1."""
    pretrained: str | None = None
    """Go on from this model: a local transformers folder, or a name on the hub."""
    run_dir: str | None = None
    """Folder for checkpoints, TensorBoard and run.json. Default runs/RECIPE, then -2, -3 …"""
    export_dir: str = "savedmodels"
    """Folder that TF Serving bundles go to."""
    export_name: str | None = None
    """Name of the bundle: letters, digits, '.', '_', '-'. A default is made from the data."""
    epochs: int = 1
    """Passes over the training data."""
    max_steps: int | None = None
    """Stop after so many optimizer steps, however many epochs that is."""
    global_batch_size: int = 32
    """Rows of one optimizer step, over all devices and micro-batches."""
    accumulate_steps: int = 1
    """Micro-batches that each device cuts its rows into, to save memory."""
    learning_rate: float | None = 1e-3
    """Highest learning rate, reached at the end of the warm-up."""
    warmup_steps: int | None = None
    """Optimizer steps over which the learning rate rises from 0. Default: a tenth, at most 100."""
    weight_decay: float = 0.1
    """Decoupled decay of matrices, per unit of learning rate."""
    sequence_length: int = 128
    """Tokens of a row."""
    precision: Precision = "float32"
    """Arithmetic of the layers; weights, losses and exported outputs stay float32."""
    strategy: StrategyName = "auto"
    """Devices: auto takes all GPUs there are, or the workers of TF_CONFIG, else the CPU."""
    resume: Literal["auto", "never"] = "auto"
    """Whether an unfinished run in the run folder is continued."""
    early_stopping_patience: int | None = None
    """Stop after so many epochs without a better validation loss."""
    dry_run: bool = False
    """Read the data, show one batch and the model, and stop before the first step."""
    seed: int = 0
    """Decides initial weights, order of the data and dropout."""

    def check(self) -> None:
        """Refuse values that no run can use.

        Raises:
            InputError: naming the flag and what was received.
        """
        for name in ("epochs", "global_batch_size", "accumulate_steps", "sequence_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("max_steps", "early_stopping_patience"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "must be at least 1")
        for name in ("warmup_steps", "weight_decay"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "must not be negative")
        require(
            self.global_batch_size % self.accumulate_steps == 0,
            "global_batch_size",
            self.global_batch_size,
            f"must be a multiple of --accumulate_steps {self.accumulate_steps}",
        )
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be at least 0 and below 2³²")
        rate = self.learning_rate
        require(
            rate is None or 0 < rate < 1e3, "learning_rate", rate, "must be above 0, below 1000"
        )
        fraction = self.validation_fraction
        require(
            0 < fraction < 1,
            "validation_fraction",
            fraction,
            "must be between 0 and 1, both excluded",
        )
        if not self.train and (self.validation or self.test):
            raise InputError("--validation and --test need --train as well")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        steps = self.epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)


def require(holds: bool, name: str, value: Any, rule: str) -> None:
    """Refuse a flag's value unless a rule holds.

    Raises:
        InputError: naming flag, rule and value.
    """
    if not holds:
        raise InputError(f"--{name} {rule}. Received: {value}")


class Run:
    """One run: its folder, what it prints, and the record that it leaves.

    Attributes:
        config: the recipe's.
        recipe: the recipe's name.
        directory: the run folder; nothing is in it before `open`.
        metrics: name → number, for `run.json`.
        timing: name → seconds.
        throughput: tokens per second of training, or None.
        export: the bundle's path, or None.
    """

    def __init__(self, config: CommonConfig, recipe: str) -> None:
        """Choose the run folder without touching it.

        Raises:
            InputError: if the folder can't be made, or holds a run that can't be continued.
        """
        self.config = config
        self.recipe = recipe
        self.metrics: dict[str, float] = {}
        self.timing: dict[str, float] = {}
        self.throughput: float | None = None
        self.export: str | None = None
        _check_writable(Path(config.export_dir), "export_dir")
        self.directory = _choose_directory(config, recipe)
        self._lock: IO[str] | None = None
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line for the person who watches."""
        print(text, flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that a block takes to `timing`."""
        start = time.monotonic()
        yield
        self.timing[name] = self.timing.get(name, 0.0) + round(time.monotonic() - start, 3)

    def open(self) -> Path:
        """Make the run folder, take it, and note the configuration in it for a later resume.

        Raises:
            InputError: if it can't be written, or a live process has it.
        """
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
            write_json(self.directory / _UNFINISHED, dataclasses.asdict(self.config))
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        return self.directory

    def finish(self) -> None:
        """Write `run.json` and print the same object as the last line."""
        self.timing["total"] = round(time.monotonic() - self._start, 3)
        record = {
            "config": dataclasses.asdict(self.config) | {"run_dir": str(self.directory)},
            "metrics": self.metrics,
            "timing": self.timing,
            "throughput": self.throughput,
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONED}
            | {"python": ".".join(map(str, sys.version_info[:3]))},
            "export": self.export,
        }
        if not self.config.dry_run:
            write_json(self.directory / _FINISHED, record)
        print(json.dumps(record, ensure_ascii=False, allow_nan=False), flush=True)


def write_json(path: Path, value: Any) -> None:
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


def _choose_directory(config: CommonConfig, recipe: str) -> Path:
    if config.run_dir is not None:
        directory = Path(config.run_dir)
        _check_writable(directory, "run_dir")
        obstacle = _obstacle(directory, config)
        if obstacle:
            raise InputError(f"--run_dir {directory} {obstacle}. Give another --run_dir")
        return directory
    _check_writable(Path("runs"), "run_dir")
    number = 1
    while True:
        directory = Path("runs") / (recipe if number == 1 else f"{recipe}-{number}")
        if _obstacle(directory, config) is None:
            return directory
        number += 1


def _obstacle(directory: Path, config: CommonConfig) -> str | None:
    """Why a run can't go into a folder, or None."""
    if (directory / _FINISHED).exists():
        return "holds a finished run"
    if not (directory / _UNFINISHED).exists():
        return None
    if config.resume == "never":
        return "holds an unfinished run, and --resume is never"
    try:
        before = dict(json.loads((directory / _UNFINISHED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"holds an unreadable {_UNFINISHED}"
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    changed = [
        f"{name} was {before.get(name)!r} and is {value!r}"
        for name, value in now.items()
        if name not in _FREE and before.get(name) != value
    ]
    return f"holds an unfinished run with other flags: {'; '.join(changed)}" if changed else None


def _check_writable(directory: Path, flag: str) -> None:
    """Fail before the work and not after it. Makes nothing."""
    place = directory.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    reason = None
    if not os.path.isdir(place):
        reason = f"{place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is not writable"
    elif max(len(part.encode()) for part in directory.absolute().parts) > 255:
        reason = "a name in it is longer than 255 bytes"
    if reason:
        raise InputError(f"--{flag} {directory} can't be made: {reason}. Give another --{flag}")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be written: {error.strerror or error}. Give another --run_dir")


_Config = TypeVar("_Config", bound=CommonConfig)


def main(config_type: type[_Config], recipe: Callable[[_Config, Run], None], file: str) -> None:
    """Run a recipe from the command line; returns by `SystemExit` where it fails.

    Exit codes: 0 done; 2 something the user gave can't be used (one line on stderr says what);
    130 and 143 stopped by Ctrl-C or SIGTERM, to be resumed.

    Args:
        config_type: the recipe's frozen dataclass; its fields become flags.
        recipe: takes the configuration and the run.
        file: the recipe's `__file__`, which names it.
    """
    import tyro

    # TensorFlow prints a dozen lines when it starts; the user should see ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    path = Path(file)
    doc = sys.modules["__main__"].__doc__ if path.name in sys.argv[0] else None
    config = tyro.cli(config_type, description=doc, prog=f"python recipes/{path.name}")
    try:
        config.check()
        run = Run(config, path.stem)
    except InputError as error:
        _fail(str(error))
    signal.signal(signal.SIGTERM, _terminate)
    try:
        recipe(config, run)
        run.finish()
    except InputError as error:
        _fail(str(error))
    except Interrupted as stop:
        print(f"\nStopped by {stop}. {_how_to_go_on(run)}", file=sys.stderr)
        raise SystemExit(128 + stop.signal_number) from None
    except (KeyboardInterrupt, _Terminated) as stop:
        print(f"\nStopped. {_how_to_go_on(run)}", file=sys.stderr)
        raise SystemExit(143 if isinstance(stop, _Terminated) else 130) from None
    except Exception as error:
        if _is_disk_full(error):
            _fail(f"the disk is full: {str(error).splitlines()[0]}. Free space and run again")
        raise


class _Terminated(BaseException):
    """SIGTERM outside training, so that what is half written is cleared away."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _how_to_go_on(run: Run) -> str:
    if not (run.directory / "checkpoints").is_dir():
        return "There is no checkpoint yet; the same command starts again."
    return (
        f"A checkpoint is in {run.directory}/checkpoints: the same command with "
        f"--run_dir {run.directory} goes on from it."
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # TensorFlow's file system layer raises its own type with the system's words.
    return "No space left on device" in str(error)
