"""Vectors of a corpus in a file, written step by step and whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tfllm.errors import InputError

__all__ = ["write_vectors"]

Batches = Callable[[int], Iterable[tuple[np.ndarray, np.ndarray]]]

# Between marks of how far it has come: what a kill costs.
_STEPS = 64


def write_vectors(
    path: str | Path, batches: Batches, *, rows: int, width: int, identity: str
) -> np.ndarray:
    """Write vectors as they come, go on where a killed process stopped, or open what is whole.

    They lie in a hidden file beside the target, which is renamed at the end; `NAME.json` says of
    what they are and how many steps are done. What goes on ends with the same bytes as what was
    never stopped, if `batches` gives the same for the same step.

    Args:
        path: of the `.npy` file, `<float32>[rows, width]`.
        batches: first step → (row numbers `<int64>[n]`, vectors `<float32>[n, width]`) of that
            step and all after it.
        rows: of the corpus.
        width: numbers of a vector.
        identity: of corpus and model. What was begun for others is begun anew.

    Returns:
        the vectors, memory-mapped.

    Raises:
        InputError: if the file holds something else, can't be written, or is being written by
            another process.
    """
    path = Path(path)
    if not path.exists():
        with _alone(path.parent):
            if not path.exists():  # whoever wrote it a moment ago
                _write(path, batches, (rows, width), identity)
                return np.load(path, mmap_mode="r")
    if _steps_done(path.with_suffix(".json"), identity):
        return _opened(path)
    raise InputError(
        f"{path} holds the vectors of another corpus or model, or of another sequence length or "
        "batch size, and nothing is overwritten. Give another folder, or remove it"
    )


def _write(path: Path, batches: Batches, shape: tuple[int, int], identity: str) -> None:
    hidden, note = path.with_name(f".{path.name}.part"), path.with_suffix(".json")
    try:
        step = _steps_done(note, identity) if hidden.is_file() else 0
        if not step:
            # It would count what is begun here as what others had done.
            note.unlink(missing_ok=True)
        vectors = np.lib.format.open_memmap(hidden, "r+" if step else "w+", np.float32, shape)
        for places, found in batches(step):
            vectors[places] = found
            step += 1
            if step % _STEPS == 0:
                vectors.flush()
                _mark(note, identity, step)
        vectors.flush()
        del vectors
        _mark(note, identity, step)
        hidden.rename(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing here; the kernel lets go of it when this one ends."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(
            f"another process is writing the vectors in {folder}. Wait, or give another folder"
        ) from None
    finally:
        os.close(descriptor)


def _opened(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}. Remove it, and run again") from error


def _steps_done(note: Path, identity: str) -> int:
    try:
        noted = json.loads(note.read_text())
    except (OSError, ValueError):
        return 0
    is_ours = isinstance(noted, dict) and noted.get("identity") == identity
    return noted["steps"] if is_ours else 0


def _mark(note: Path, identity: str, steps: int) -> None:
    new = note.with_suffix(".new")
    with new.open("w") as file:
        json.dump({"identity": identity, "steps": steps}, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(note)
