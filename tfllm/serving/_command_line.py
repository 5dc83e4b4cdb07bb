"""The mistakes of a command line, each said in one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from tfllm.errors import InputError

__all__ = ["OneLineParser", "say_error"]


class OneLineParser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises where the other prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            InputError: with the mistake.
        """
        raise InputError(f"{message}. See --help")


def say_error(error: Exception) -> int:
    """Print what was wrong, in one line on stderr; give the exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
