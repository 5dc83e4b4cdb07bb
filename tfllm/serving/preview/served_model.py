"""One model of a server's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tfllm.serving.session import versions

__all__ = ["ServedModel"]


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A name, where its versions lie, and which of them are wanted.

    Attributes:
        name: what clients ask for.
        base_path: the folder whose integer names are versions.
        latest: how many of the newest to serve; 0: all.
        specific: these and no others; empty: as `latest` says.
        labels: label → version.
    """

    name: str
    base_path: Path
    latest: int = 1
    specific: frozenset[int] = frozenset()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def wanted(self, present: Mapping[int, Path]) -> list[int]:
        """Choose from the versions that are there, newest first."""
        numbers = sorted(present, reverse=True)
        if self.specific:
            return [number for number in numbers if number in self.specific]
        return numbers[: self.latest] if self.latest else numbers

    def why_none(self) -> str:
        """Say why no version is there to be loaded, for a person."""
        try:
            present = versions(self.base_path)
        except OSError as error:
            return f"{self.base_path} can't be listed: {error.strerror}"
        if not present:
            return f"{self.base_path} holds no version, that is, a folder named 1, 2, 3 …"
        wanted = ", ".join(map(str, sorted(self.specific)))
        return f"{self.base_path} doesn't hold what is asked for by specific: {wanted}"
