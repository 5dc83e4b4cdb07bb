"""A stretch of a text that is to be learnt, or only read."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Piece"]


class Piece(NamedTuple):
    """One stretch of an example's text.

    Attributes:
        text: tokenized by itself.
        learnt: whether the model learns to write it, and then to stop.
    """

    text: str
    learnt: bool
