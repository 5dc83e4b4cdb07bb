"""That a document is taken out, and why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Removal"]


@dataclass(frozen=True)
class Removal:
    """What a step answers instead of a document that it takes out.

    Attributes:
        reason: a few words with the number that decided, for the report.
    """

    reason: str
