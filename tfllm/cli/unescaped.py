"""Texts in flags."""

from __future__ import annotations

import re

__all__ = ["unescaped"]

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


def unescaped(text: str) -> str:
    r"""Read `\n`, `\t` and `\\` in a flag as a new line, a tab and a backslash.

    A shell leaves them as they are; whatever else follows a backslash stays.
    """
    return re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], text)
