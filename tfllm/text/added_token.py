"""A token that is looked for in the text before words are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AddedToken"]


@dataclass(frozen=True)
class AddedToken:
    """A token that is looked for in the text before words are."""

    id: int
    content: str
    special: bool
    lstrip: bool
    """Whether it takes the whitespace before it along."""
    rstrip: bool
    """Whether it takes the whitespace after it along."""
    normalized: bool
    """Whether it is looked for only where no token without this flag was found."""
