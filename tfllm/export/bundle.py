"""Publish a model as the next version of a bundle, whole and proven, or not at all.

```
savedmodels/
└── NAME/                what TensorFlow Serving is told to watch
    ├── 1/
    ├── 2/               a version: saved_model.pb, variables/, assets/
    └── .tmp-3f0c…/      the version being written; the server takes no notice of it
```
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfllm.errors import InputError
from tfllm.export import gate
from tfllm.serving.session import versions

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["check_name", "export_bundle"]

_LOG = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_STAGING = ".tmp-"
_LARGEST_VERSION = 2**63 - 1

# What a person can mend about a file system. TensorFlow's errors carry only their text.
_MENDABLE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOLCK,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EROFS,
}


def export_bundle(
    signatures: Mapping[str, tf.types.experimental.GenericFunction],
    export_dir: str | Path,
    name: str,
    *,
    modules: Sequence[tf.Module],
    probes: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    tolerance: float = 1e-5,
) -> Path:
    """Save serving functions as `export_dir/name/<next integer>`, after proving that they serve.

    The version is written to a hidden sibling, loaded back in a fresh process the way TensorFlow
    Serving loads it, compared with the functions in memory, and only then renamed. Whatever goes
    wrong, a server that watches the folder never sees a version that isn't whole. Exporters of the
    same bundle wait for one another.

    Args:
        signatures: name → a `tf.function` with an input signature (first dimensions unknown) that
            returns a dict of named outputs. `"serving_default"` must be among them.
        export_dir: folder of bundles, made if it isn't there.
        name: the bundle's name, which the server knows it by: letters, digits, `.`, `_` and `-`.
        modules: a model and its tokenizer, say: together they track every variable, table and
            asset that the functions read. Nothing else of them is saved: no optimizer, no training
            functions.
        probes: signature → input → rows to be asked in batches of 1, 2 and 7; a shorter column is
            repeated. A signature whose one input is `<string>[batch]` is asked `AWKWARD_TEXTS`
            where no probes are given for it; every other signature needs some.
        tolerance: largest difference between the bundle's floats and the functions' in memory,
            absolute up to 1 and relative beyond. Everything else must be equal.

    Returns:
        The new version's folder.

    Raises:
        InputError: the name is no bundle's name, or the folder can't be written: disk full,
            no permission.
        ExportError: the gate refused the model.
        ValueError: the signatures or the probes are not as described.

    Example:
        >>> export_bundle({"serving_default": classify}, "savedmodels", "sst2", modules=[model])
        PosixPath('savedmodels/sst2/1')
    """
    # TensorFlow is imported where it is used, so that a bad name is told at once.
    check_name(name)
    from tfllm.export import _memory, _saving

    if "serving_default" not in signatures:
        raise ValueError(f"signatures must hold 'serving_default'. Received: {list(signatures)}")
    cases = _memory.answered_cases(signatures, probes or {})
    with _locked(Path(export_dir) / name) as folder, _staging(folder) as staging:
        with _writing(folder):
            _saving.save(signatures, modules, staging)
            byte_count = _flush(staging)
        start = time.perf_counter()
        gate.prove(staging, cases, tolerance)
        seconds = time.perf_counter() - start
        with _writing(folder):
            version = _publish(staging, folder)
    _LOG.info("%s: %.1f MB, gate %.1f s", version, byte_count / 1e6, seconds)
    return version


def check_name(name: str) -> None:
    """See that a bundle can be called so.

    Raises:
        InputError: with the rule, if it can't.
    """
    if not _NAME.fullmatch(name) or name.isdecimal():
        raise InputError(
            f"a bundle's name must be letters, digits, '.', '_' and '-', not start with '.' or "
            f"'-', and not be a number; received {name!r}"
        )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what a person can mend about a file system into an InputError."""
    import tensorflow as tf

    try:
        yield
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        raise _unwritable(folder, error.strerror) from error
    except tf.errors.OpError as error:
        reasons = (os.strerror(number) for number in sorted(_MENDABLE))
        reason = next((reason for reason in reasons if reason in error.message), None)
        if reason is None:
            raise
        raise _unwritable(folder, reason) from error


def _unwritable(folder: Path, reason: str | None) -> InputError:
    return InputError(
        f"can't write the bundle {folder}: {reason}; nothing was published. "
        "Free some space, or give another export_dir"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Make the bundle's folder and hold it against other exporters.

    On failure the folders that were made are removed again. The kernel lets go of the lock when
    the process dies, whichever way.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        with _writing(folder):
            descriptor = _lock(folder)
    except BaseException:
        _remove_empty(missing)
        raise
    try:
        yield folder
    except BaseException:
        _remove_empty(missing)  # before the lock goes: the next one must not find them
        raise
    finally:
        os.close(descriptor)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # never made, or somebody has put something in it
            folder.rmdir()


def _lock(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # An exporter that failed may have removed the folder while this one waited for it.
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Name a hidden sibling of the versions, which is gone at the end whatever happens."""
    # Under the lock, all others are left over from exporters that were killed.
    for stale in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = folder / f"{_STAGING}{uuid.uuid4().hex}"
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _flush(folder: Path) -> int:
    """Put every file and folder on the disk, not in its cache; return the files' bytes."""
    byte_count = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            byte_count += os.path.getsize(path)
            _fsync(path)
        _fsync(parent)
    return byte_count


def _fsync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(staging: Path, folder: Path) -> Path:
    """Give the staged version the next number, in one step that a server can't see half of."""
    number = max([0, *versions(folder)]) + 1
    if number > _LARGEST_VERSION:
        raise InputError(f"{folder} holds the largest version there is, {number - 1}: remove it")
    version = folder / str(number)
    os.rename(staging, version)
    _fsync(folder)
    return version
