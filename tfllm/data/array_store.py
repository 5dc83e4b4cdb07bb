"""Named columns of arrays on disk, memory-mapped, with a manifest that proves them whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tfllm.data.array_manifest import ArrayManifest

__all__ = ["ArrayStore"]


class ArrayStore:
    """A read-only view of a store's folder.

    Opening compares every file's size with the manifest, and the manifest with its own digest: a
    store that was cut off anywhere is never taken for a whole one. Flipped bytes inside an array
    are seen by `verify` alone, which reads everything; nothing calls it by itself but
    `python -m tfllm.data.cache verify`.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a whole store.

        Raises:
            ValueError: if the folder holds no store, or one that was cut off.
        """
        self.folder = Path(folder)
        self.manifest = ArrayManifest.read(self.folder)
        self._arrays: dict[str, np.ndarray] = {}
        for name, (size, _) in self.manifest.files().items():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else -1
            if found != size:
                raise ValueError(
                    f"{self.folder} holds a store that was cut off: {name} has {found} of {size} "
                    "bytes"
                )
        for name, column in self.manifest.columns.items():
            self._arrays[name] = self._map(f"{name}.values.bin", column.dtype)
            if column.width is not None:
                self._arrays[name] = self._arrays[name].reshape(len(self), column.width)
            if column.ragged:
                self._check_ends(name, self.offsets(name))

    def __len__(self) -> int:
        """Rows."""
        return self.manifest.rows

    def __str__(self) -> str:
        """Say what it is, where, how large, and how to be rid of it."""
        return (
            f"{len(self):,} rows in {self.folder}, {self.bytes:,} bytes; delete the folder, or "
            "run `python -m tfllm.data.cache clear`"
        )

    @property
    def bytes(self) -> int:
        """Bytes of its arrays on disk."""
        return sum(size for size, _ in self.manifest.files().values())

    def values(self, column: str) -> np.ndarray:
        """Give a column, memory-mapped: `[values]` if ragged, else `[rows]` or `[rows, width]`."""
        return self._arrays[column]

    def offsets(self, column: str) -> np.ndarray:
        """`<int64>[rows + 1]`: row r of a ragged column is `values[offsets[r]:offsets[r + 1]]`."""
        name = f"{column}.offsets.bin"
        if name not in self._arrays:
            self._arrays[name] = self._map(name, "int64")
        return self._arrays[name]

    def lengths(self, column: str) -> np.ndarray:
        """Values of each row of a ragged column, `<int64>[rows]`, in memory."""
        return np.diff(self.offsets(column))

    def row(self, column: str, row: int) -> np.ndarray:
        """Values of one row."""
        if not self.manifest.columns[column].ragged:
            return self.values(column)[row : row + 1].ravel()
        start, end = self.offsets(column)[row : row + 2]
        return self.values(column)[start:end]

    def verify(self) -> None:
        """Read every byte and compare with the manifest; half a second to two for each gigabyte.

        Raises:
            ValueError: if a byte is not as it was written.
        """
        for name, (_, wanted) in self.manifest.files().items():
            with (self.folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                    raise ValueError(f"{self.folder / name} is damaged: delete the folder")

    def _map(self, name: str, dtype: str) -> np.ndarray:
        path = self.folder / name
        if path.stat().st_size == 0:  # nothing can't be mapped
            return np.empty(0, dtype)
        return np.memmap(path, dtype=dtype, mode="r")

    def _check_ends(self, column: str, offsets: np.ndarray) -> None:
        if offsets[0] != 0 or offsets[-1] != self.manifest.columns[column].values:
            raise ValueError(f"{self.folder} is damaged: offsets of {column} don't fit its values")
