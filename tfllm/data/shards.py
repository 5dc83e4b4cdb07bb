"""Parts of a store: written each by itself, then joined in order."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfllm.data.array_manifest import Column
from tfllm.data.encoders.encoder import Encoded, Encoder
from tfllm.data.encoders.ragged import Ragged

__all__ = ["ShardJoiner", "write_shard"]


def write_shard(examples: Sequence[Mapping[str, Any]], encoder: Encoder, path: Path) -> None:
    """Encode examples into one file; a pure function of its arguments.

    The file is numpy's `.npz`, uncompressed, without pickled objects: of each column `name` its
    values as `values.name`, and of a ragged one `lengths.name`; the counts as `count.name`.

    Args:
        examples: some of a source, one after another.
        encoder: see `Encoder`.
        path: of the file; its folder exists.
    """
    encoded = encoder(examples)
    arrays: dict[str, np.ndarray] = {}
    for name, column in encoded.columns.items():
        if isinstance(column, Ragged):
            arrays[f"lengths.{name}"] = column.lengths.astype(np.int64)
        arrays[f"values.{name}"] = column.values if isinstance(column, Ragged) else column
    for name, count in encoded.counts.items():
        arrays[f"count.{name}"] = np.array(count, np.int64)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read_shard(path: Path) -> Encoded:
    columns: dict[str, np.ndarray | Ragged] = {}
    counts: dict[str, int] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, _, name = key.partition(".")
            if kind == "count":
                counts[name] = int(arrays[key])
            elif kind == "values":
                values = arrays[key]
                lengths = f"lengths.{name}"
                ragged = lengths in arrays
                columns[name] = Ragged(values, arrays[lengths]) if ragged else values
    return Encoded(columns, counts)


@dataclass
class _ArrayFile:
    """An array that grows on disk, with the digest of what was written."""

    path: Path
    file: BinaryIO = field(init=False)
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    def __post_init__(self) -> None:
        self.file = self.path.open("xb")

    def append(self, array: np.ndarray) -> None:
        """Write an array's bytes."""
        data = np.ascontiguousarray(array).data
        self.digest.update(data)
        self.file.write(data)
        self.size += array.size

    def finish(self) -> str:
        """See that it is on disk; give its sha256."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return self.digest.hexdigest()


class ShardJoiner:
    """Appends shards to the columns of a store, in order, and keeps none of them in memory.

    A context manager, which closes its files.

    Attributes:
        rows: so far.
        counts: of all shards so far, added up.
    """

    def __init__(self, folder: Path) -> None:
        """Begin in an empty folder."""
        self.rows = 0
        self.counts: Counter[str] = Counter()
        self._folder = folder
        self._values: dict[str, _ArrayFile] = {}
        self._offsets: dict[str, _ArrayFile] = {}
        self._dtypes: dict[str, str] = {}
        self._widths: dict[str, int | None] = {}

    def append(self, shard: Path) -> None:
        """Append one shard and delete it."""
        encoded = _read_shard(shard)
        rows = {name: _rows(column) for name, column in encoded.columns.items()}
        if len(set(rows.values())) != 1:
            raise ValueError(f"an encoder's columns must have equally many rows. Received: {rows}")
        for name, column in encoded.columns.items():
            self._append(name, column)
        self.rows += next(iter(rows.values()))
        self.counts.update(encoded.counts)
        shard.unlink()

    def __enter__(self) -> ShardJoiner:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what an error left open."""
        for file in (*self._values.values(), *self._offsets.values()):
            file.file.close()

    def finish(self) -> dict[str, Column]:
        """Put the files on disk; give the columns for the manifest."""
        columns = {}
        for name, values in self._values.items():
            offsets = self._offsets.get(name)
            columns[name] = Column(
                dtype=self._dtypes[name],
                values=values.size,
                ragged=offsets is not None,
                sha256=values.finish(),
                offsets_sha256=offsets.finish() if offsets else "",
                width=self._widths[name],
            )
        return columns

    def _append(self, name: str, column: np.ndarray | Ragged) -> None:
        values = column.values if isinstance(column, Ragged) else column
        if name not in self._values:
            self._begin(name, values, ragged=isinstance(column, Ragged))
        if values.dtype.name != self._dtypes[name]:
            raise ValueError(f"column {name!r} was {self._dtypes[name]}, now {values.dtype.name}")
        if _width(values) != self._widths[name]:
            widths = f"{self._widths[name]}, now {_width(values)}"
            raise ValueError(f"column {name!r} was of width {widths}")
        if isinstance(column, Ragged):
            before = self._values[name].size
            self._offsets[name].append(before + np.cumsum(column.lengths, dtype=np.int64))
        self._values[name].append(values)

    def _begin(self, name: str, values: np.ndarray, *, ragged: bool) -> None:
        self._dtypes[name] = values.dtype.name
        self._widths[name] = _width(values)
        self._values[name] = _ArrayFile(self._folder / f"{name}.values.bin")
        if ragged:
            self._offsets[name] = _ArrayFile(self._folder / f"{name}.offsets.bin")
            self._offsets[name].append(np.zeros(1, np.int64))


def _rows(column: np.ndarray | Ragged) -> int:
    return len(column.lengths if isinstance(column, Ragged) else column)


def _width(values: np.ndarray) -> int | None:
    """Values of each row of a matrix; None for `[rows]`, and for the values of ragged rows."""
    return values.shape[1] if values.ndim == 2 else None
