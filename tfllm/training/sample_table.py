"""Texts side by side, as TensorBoard shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["sample_table"]

_CELL_CHARACTERS = 600

# What Markdown or HTML would take for something else; and control characters.
_SPECIAL = re.compile(r"[^\w\s]", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")


def sample_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write texts as a Markdown table that shows each as it is, on one line or on several.

    Of a long text the last 600 characters are shown: those that a model goes on from.

    Args:
        header: names of the columns.
        rows: one text a column.

    Example:
        >>> print(sample_table(["prompt", "generated"], [["1 | 2", "a"]]))
        | prompt | generated |
        | --- | --- |
        | 1 &#124; 2 | a |
    """
    lines = [header, ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    if len(text) > _CELL_CHARACTERS:
        text = "…" + text[-_CELL_CHARACTERS:]
    text = _CONTROL.sub("", text)
    lines = [_escaped(" ".join(line.split())) for line in text.strip().splitlines()]
    return "<br>".join(lines)


def _escaped(line: str) -> str:
    # An underscore is part of a word for `re`, and emphasis for Markdown.
    line = _SPECIAL.sub(
        lambda found: f"&#{ord(found[0])};" if found[0].isascii() else found[0], line
    )
    return line.replace("_", "&#95;")
