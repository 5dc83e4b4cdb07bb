"""What a store of arrays holds, as it stands in its `manifest.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMAT", "ArrayManifest", "Column"]

FORMAT = 3
_NAME = "manifest.json"


@dataclass(frozen=True)
class Column:
    """One column on disk.

    Attributes:
        dtype: of its values.
        values: how many, over all rows.
        ragged: whether rows hold different numbers of values.
        sha256: of the values' bytes.
        offsets_sha256: of the offsets' bytes; empty where not ragged.
        width: values of every row of a matrix, `[rows, width]`; None where it is ragged, or
            `[rows]`.
    """

    dtype: str
    values: int
    ragged: bool
    sha256: str
    offsets_sha256: str
    width: int | None = None

    def files(self, name: str, rows: int) -> dict[str, tuple[int, str]]:
        """File name → its bytes and their sha256."""
        size = self.values * np.dtype(self.dtype).itemsize
        files = {f"{name}.values.bin": (size, self.sha256)}
        if self.ragged:
            files[f"{name}.offsets.bin"] = (8 * (rows + 1), self.offsets_sha256)
        return files


@dataclass(frozen=True)
class ArrayManifest:
    """Written last, so a folder without one holds no store.

    Attributes:
        format: number of the layout.
        source: digest of the examples.
        encoder: the encoder's identity, the tokenizer's fingerprint in it.
        rows: of every column.
        counts: what the encoder counted: rows truncated, tokens cut, bytes of text …
        columns: name → column.
    """

    format: int
    source: str
    encoder: dict[str, Any]
    rows: int
    counts: dict[str, int]
    columns: dict[str, Column]

    @classmethod
    def read(cls, folder: Path) -> ArrayManifest:
        """Read a folder's manifest.

        Raises:
            ValueError: if there is none, or not as it was written.
        """
        try:
            fields = json.loads((folder / _NAME).read_text(encoding="utf-8"))
            digest = fields.pop("sha256")
            columns = fields.pop("columns")
            if digest != _digest({**fields, "columns": columns}) or fields["format"] != FORMAT:
                raise ValueError("its manifest is damaged or of another format")
            return cls(**fields, columns={name: Column(**c) for name, c in columns.items()})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder} holds no whole store: {error}") from error

    def write(self, folder: Path) -> None:
        """Write it, with a digest of itself."""
        fields = asdict(self)
        text = json.dumps({**fields, "sha256": _digest(fields)}, indent=2, ensure_ascii=False)
        (folder / _NAME).write_text(text + "\n", encoding="utf-8")

    def files(self) -> dict[str, tuple[int, str]]:
        """Name of each array's file → its bytes and their sha256."""
        files: dict[str, tuple[int, str]] = {}
        for name, column in self.columns.items():
            files |= column.files(name, self.rows)
        return files


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
