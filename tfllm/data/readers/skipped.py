"""How many rows a reader left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfllm.data.readers.bad_row import BadRow

__all__ = ["Skipped"]

_SAMPLES = 5


@dataclass
class Skipped:
    """Counts the rows that one pass left out.

    Attributes:
        count: how many.
        samples: the first five of them.
    """

    count: int = 0
    samples: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Count a row."""
        self.count += 1
        if len(self.samples) < _SAMPLES:
            self.samples.append(row)
