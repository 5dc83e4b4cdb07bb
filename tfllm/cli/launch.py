"""The launcher as a command: its own flags, `--`, then a recipe and the recipe's flags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tfllm.cli.command_line import fail, parse
from tfllm.errors import InputError

__all__ = ["launch"]

_Config = TypeVar("_Config")


def launch(
    config_type: type[_Config], start: Callable[[_Config, Sequence[str]], int], file: str
) -> None:
    """Parse what stands before `--`, and hand on what stands behind it.

    Args:
        config_type: a frozen dataclass; its fields become flags.
        start: takes the configuration and the words behind `--`; gives the exit code.
        file: the `__file__` of who calls.
    """
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    prog = f"python recipes/{Path(file).name}"
    try:
        config = parse(config_type, sys.modules["__main__"].__doc__, prog, words[:at])
        code = start(config, words[at + 1 :])
    except InputError as error:
        fail(str(error))
    raise SystemExit(code)
