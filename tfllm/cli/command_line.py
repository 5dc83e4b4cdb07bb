"""A recipe as a command: flags in, exit code out."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from tfllm.cli.common_config import CommonConfig
from tfllm.cli.run import Run
from tfllm.errors import InputError, Interrupted

__all__ = ["fail", "main", "parse", "prepare_environment"]

_Config = TypeVar("_Config", bound=CommonConfig)
_Any = TypeVar("_Any")


def main(config_type: type[_Config], recipe: Callable[[_Config, Run], None], file: str) -> None:
    """Run a recipe from the command line; returns by `SystemExit` where it fails.

    Exit codes: 0 done; 2 something the user gave can't be used (one line on stderr says what);
    130 and 143 stopped by Ctrl-C or SIGTERM, to be resumed. Of several workers only the chief
    prints, errors excepted.

    Args:
        config_type: the recipe's frozen dataclass; its fields become flags.
        recipe: takes the configuration and the run.
        file: the recipe's `__file__`, which names it.
    """
    prepare_environment()
    path = Path(file)
    doc = sys.modules["__main__"].__doc__ if path.name in sys.argv[0] else None
    try:
        config = parse(config_type, doc, f"python recipes/{path.name}")
        config.check()
        run = Run(config, path.stem)
    except InputError as error:
        fail(str(error))
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with contextlib.nullcontext() if run.is_chief else _silence():
            recipe(config, run)
            run.finish()
    except InputError as error:
        fail(str(error))
    except Interrupted as stop:
        _say_stopped(f"Stopped by {stop}", run)
        raise SystemExit(128 + stop.signal_number) from None
    except (KeyboardInterrupt, _Terminated) as stop:
        _say_stopped("Stopped", run)
        raise SystemExit(143 if isinstance(stop, _Terminated) else 130) from None
    except Exception as error:
        if _is_disk_full(error):
            fail(f"the disk is full: {str(error).splitlines()[0]}. Free space and run again")
        raise


def prepare_environment() -> None:
    """Set what TensorFlow and transformers read when they are imported, unless the user has.

    Garbage is looked for less often as well: importing and tracing make a million objects that
    stay, and Python would go through them hundreds of times, for a tenth of the start.
    """
    gc.set_threshold(100_000, 20, 20)
    # TensorFlow prints a dozen lines when it starts; the user should see ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Or TensorFlow imports Keras 3 as well, which takes two seconds and is not used here.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def parse(
    config_type: type[_Any], doc: str | None, prog: str, words: Sequence[str] | None = None
) -> _Any:
    """Read the flags; a mistake in them is one line, where tyro would draw a box.

    Args:
        config_type: a dataclass.
        doc: what `--help` says first.
        prog: the command.
        words: the flags; None for those of this process.

    Raises:
        InputError: with the mistake.
    """
    import tyro

    drawn = io.StringIO()
    try:
        with contextlib.redirect_stderr(drawn):
            return tyro.cli(config_type, description=doc, prog=prog, args=words)
    except SystemExit as end:
        if end.code == 2:
            raise InputError(_without_box(drawn.getvalue())) from None
        raise


def _without_box(drawn: str) -> str:
    lines = [line.strip("│╭╮╰╯ ") for line in drawn.splitlines()]
    sections: list[list[str]] = [[]]
    for line in lines[1:]:  # the first is the box's title
        if line.startswith("──"):
            sections.append([])
        else:
            sections[-1].append(line)
    message = " ".join(sections[0]).rstrip(". ")
    guesses = re.findall(r"Perhaps you meant: (--[\w-]+)", " ".join(sum(sections[1:], [])))
    return f"{message}. {f'Perhaps you meant {guesses[0]}. ' if guesses else ''}See --help"


class _Terminated(BaseException):
    """SIGTERM outside training, so that what is half written is cleared away."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what the block prints on stdout, bars and lines of libraries included."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _say_stopped(how: str, run: Run) -> None:
    if run.is_chief:
        print(f"\n{how}. {_how_to_go_on(run)}", file=sys.stderr)


def _how_to_go_on(run: Run) -> str:
    if not (run.directory / "checkpoints").is_dir():
        return "There is no checkpoint yet; the same command starts again."
    return (
        f"A checkpoint is in {run.directory}/checkpoints: the same command with "
        f"--run_dir {run.directory} goes on from it."
    )


def fail(message: str) -> NoReturn:
    """Say in one line what can't be used, and end with exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # TensorFlow's file system layer raises its own type with the system's words.
    return "No space left on device" in str(error)
