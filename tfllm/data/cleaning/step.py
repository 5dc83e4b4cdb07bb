"""What a cleaning step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal

__all__ = ["Step"]


class Step(ABC):
    """Looks at one document after the other; may change it or take it out.

    Steps are frozen dataclasses: their options are their fields, and what they remember of
    earlier documents lives in what `begin` gives.

    Attributes:
        name: what it is called in reports.
    """

    name: ClassVar[str]

    @abstractmethod
    def begin(self) -> Callable[[str], str | Removal]:
        """Begin a pass that remembers nothing of others.

        Returns:
            a function that takes a document and gives it back, changed or not, or a `Removal`.
        """
