"""Predictions as a file of JSON lines, for reading errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.errors import InputError

__all__ = ["write_predictions"]


def write_predictions(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; the file appears whole, in place of an older one.

    Args:
        path: the file.
        lines: objects; their values may be NumPy's. Floats are written with six digits, and null
            where they are not finite.

    Raises:
        InputError: if the file can't be written.
    """
    hidden = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hidden.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(json.dumps(_plain(line), ensure_ascii=False, allow_nan=False) + "\n")
        hidden.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error.strerror or error}. Make room, or give another "
            "--run_dir"
        ) from error
    finally:
        with suppress(OSError):  # it was renamed, or never made
            hidden.unlink()


def _plain(value: Any) -> Any:
    """Turn what NumPy gives into what JSON knows."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
