"""A recipe that trains nothing, as a command: flags in, exit code out."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tfllm.cli.command_line import fail, parse, prepare_environment
from tfllm.errors import InputError

__all__ = ["tool"]

_Config = TypeVar("_Config")


def tool(config_type: type[_Config], work: Callable[[_Config], None], file: str) -> None:
    """Run such a recipe from the command line; returns by `SystemExit` where it fails.

    Exit codes: 0 done; 2 something the user gave can't be used (one line on stderr says what);
    130 stopped by Ctrl-C. Whoever reads the output may stop reading.

    Args:
        config_type: a frozen dataclass; its fields become flags.
        work: takes the configuration.
        file: the recipe's `__file__`, which names it.
    """
    prepare_environment()
    if sys.stdout is None:  # closed by who started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        work(
            parse(
                config_type,
                sys.modules["__main__"].__doc__,
                f"python recipes/{Path(file).name}",
            )
        )
        sys.stdout.flush()
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain of the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        fail("what is printed can't be written: the disk is full")
