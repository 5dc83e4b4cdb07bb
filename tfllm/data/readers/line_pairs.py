"""Two files whose lines belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Located, Paths, Reader
from tfllm.data.text_files import open_bytes
from tfllm.errors import InputError

__all__ = ["LinePairs"]

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LinePairs(Reader):
    """Examples `{"source": …, "target": …}` from files aligned line by line.

    The lines of both files are counted before the first example, so that files that don't belong
    together give none. A pair with a blank side is a bad row.

    Attributes:
        sources: paths and globs, packed with gzip or not.
        targets: as many.
        source_name: the field's name in the example.
        target_name: the same for the target.
    """

    sources: Paths
    targets: Paths
    source_name: str = "source"
    target_name: str = "target"

    _places: ClassVar[frozenset[str]] = frozenset({"sources", "targets"})

    def located(self) -> Iterator[Located]:
        """Yield pairs, and lines that can't be read, in the order of the files."""
        half = len(self.files) // 2
        for source, target in zip(self.files[:half], self.files[half:], strict=True):
            _check_lengths(source, target)
            lines = zip(read_lines(source), read_lines(target), strict=True)
            for number, ((left, left_fault), (right, right_fault)) in enumerate(lines, 1):
                fault = left_fault or right_fault
                if fault:
                    yield source, number, fault
                elif not left.strip() or not right.strip():
                    blank = source if not left.strip() else target
                    yield blank, number, BadRow(blank, number, "is blank")
                else:
                    yield source, number, {self.source_name: left, self.target_name: right}

    def _find(self) -> list[Path]:
        sources, targets = self._resolve(self.sources), self._resolve(self.targets)
        if len(sources) != len(targets):
            raise InputError(
                f"there are {len(sources)} files of sources and {len(targets)} of targets. Give "
                "as many of the one as of the other"
            )
        return sources + targets


def _check_lengths(source: Path, target: Path) -> None:
    left, right = _count_lines(source), _count_lines(target)
    if left != right:
        raise InputError(
            f"{source} has {left:,} lines and {target} has {right:,}, but line by line they "
            "should belong together. Give files of one length"
        )


def _count_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk
    return count + (not last.endswith(b"\n"))
