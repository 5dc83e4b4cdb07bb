"""Where stores lie: made whole or not at all, found, listed, cleared."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.array_manifest import ArrayManifest

__all__ = ["StoreFolder", "clear_stores", "default_cache_dir", "list_stores", "new_folder"]

_STORE = re.compile(r"[0-9a-f]{24}")
_HIDDEN = re.compile(r"\.[0-9a-f]{24}-[0-9a-f]{8}")
# A builder locks its hidden folder right after making it.
_SECONDS_UNTIL_LOCKED = 60


@dataclass(frozen=True)
class StoreFolder:
    """One folder of a store, whole or not.

    Attributes:
        folder: where it lies.
        bytes: what it takes on disk.
        manifest: what it holds; None if it can't be read, or is of another version of tfllm.
    """

    folder: Path
    bytes: int
    manifest: ArrayManifest | None

    def __str__(self) -> str:
        """Say it in one line."""
        if self.manifest is None:
            return f"{self.folder}  {self.bytes:,} bytes, unreadable or of another version"
        kind = self.manifest.encoder.get("encoder", "?")
        return f"{self.folder}  {self.bytes:,} bytes, {self.manifest.rows:,} rows of {kind}"


def default_cache_dir() -> Path:
    """Where stores go: `$TFLLM_CACHE_DIR`, or `tfllm` below the user's cache folder."""
    chosen = os.environ.get("TFLLM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfllm"


def list_stores(cache_dir: str | Path | None = None) -> list[StoreFolder]:
    """Find the stores below a folder, oldest first; what is being built is none of them.

    Args:
        cache_dir: None for `default_cache_dir()`.
    """
    root = Path(cache_dir or default_cache_dir())
    folders = [path for path in _folders(root) if _STORE.fullmatch(path.name)]
    folders.sort(key=lambda path: (path.stat().st_mtime, path.name))
    return [_store_folder(path) for path in folders]


def clear_stores(cache_dir: str | Path | None = None) -> list[StoreFolder]:
    """Delete every store below a folder, and what killed builders left; nothing else there.

    A process that has a store open keeps its arrays until it ends. What is being built now stays.

    Args:
        cache_dir: None for `default_cache_dir()`.

    Returns:
        the stores that were deleted.
    """
    root = Path(cache_dir or default_cache_dir())
    stores = list_stores(root)
    if root.is_dir():
        with _locked(root):
            for store in stores:
                _remove(store.folder)
        _sweep(root)
    return stores


@contextlib.contextmanager
def new_folder(folder: Path, is_whole: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a hidden sibling to write in; when the body is through, it takes the folder's place.

    Whatever happens, the folder is whole or is not there. If another process was faster, its
    folder stays. What killed processes left beside it is deleted.

    Args:
        folder: named by a digest of its content, 24 hexadecimal digits.
        is_whole: whether a folder that stands there already is good.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    hidden = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    hidden.mkdir()
    try:
        with _locked(hidden):
            yield hidden
            _sync(hidden)
            with _locked(folder.parent):
                if folder.exists() and not is_whole(folder):
                    _remove(folder)
                if not folder.exists():
                    hidden.rename(folder)
            _sync(folder.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Delete hidden folders whose builder is gone: the kernel has let go of its lock."""
    for path in _folders(root):
        if not _HIDDEN.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # locked by a living builder, or gone by now
            if time.time() - path.stat().st_mtime > _SECONDS_UNTIL_LOCKED:
                with _locked(path, wait=False):
                    shutil.rmtree(path)


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _store_folder(folder: Path) -> StoreFolder:
    size = sum(path.stat().st_size for path in folder.iterdir())
    try:
        return StoreFolder(folder, size, ArrayManifest.read(folder))
    except ValueError:
        return StoreFolder(folder, size, None)


def _remove(folder: Path) -> None:
    """Delete a folder so that nobody ever sees a part of it."""
    hidden = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(hidden)
        shutil.rmtree(hidden)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """See that a folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
