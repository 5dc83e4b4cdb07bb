"""Import what only some readers and cleaning steps need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tfllm.errors import InputError

__all__ = ["import_extra"]


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra.

    Args:
        module: its name.
        extra: which extra of tfllm brings it.
        purpose: what needs it, for the message.

    Raises:
        InputError: with the line to install it, if it is not there.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs {module.split('.')[0]}, which is not installed. Install it with: "
            f"pip install 'tfllm[{extra}]'"
        ) from error
