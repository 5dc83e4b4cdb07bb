"""A row that can't be read, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BadRow"]


@dataclass(frozen=True)
class BadRow:
    """A row that can't be read.

    Attributes:
        file: where it stands; for a data set without files of text, the data set's name.
        line: its line, or its row in files without lines, from 1; None where neither is known.
        reason: what is wrong with it, in a few words.
    """

    file: Path | str
    line: int | None
    reason: str

    @property
    def place(self) -> str:
        """Where it stands, in the form that editors jump to."""
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        """Say place and reason."""
        return f"{self.place} {self.reason}"
