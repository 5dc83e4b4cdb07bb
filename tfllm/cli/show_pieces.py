"""A text in the terminal as it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

__all__ = ["show_pieces"]


def show_pieces(pieces: Generator[str, None, None]) -> str:
    """Print pieces as they come; Ctrl-C ends it. Give what was shown."""
    shown = ""
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(pieces):
        for piece in pieces:
            print(piece, end="", flush=True)
            shown += piece
    print(flush=True)
    return shown
