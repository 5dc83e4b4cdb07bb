"""Publish a model as the next version of a bundle, whole and proven, or not at all.

```
savedmodels/
└── NAME/                   what TensorFlow Serving is told to watch
    ├── 1/
    ├── 2/                  a version
    │   ├── saved_model.pb, variables/
    │   ├── assets/         what the graph reads, and tokenizer/: files of the vocabulary
    │   ├── assets.extra/   requests that the server warms up with
    │   └── batching_params.pbtxt
    ├── README.md           model card; models.config, monitoring.config, docker-compose.yml and
    │                       kubernetes.yaml beside it
    └── .tmp-3f0c…/         the version being written; the server takes no notice of it
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
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tfllm.errors import InputError
from tfllm.export import gate
from tfllm.export._beside import publish_beside, stage_beside
from tfllm.export.card import Card, card_text
from tfllm.export.config_files import (
    ServedModel,
    batching_parameters,
    models_config,
    monitoring_config,
)
from tfllm.export.deployment import compose_file, kubernetes_file
from tfllm.export.probes import Case, warmup_requests
from tfllm.serving.session import versions

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Storage", "check_name", "export_bundle"]

Storage = Literal["float32", "float16", "bfloat16"]

_LOG = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LONGEST_NAME = 200
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
    tokenizer: Any = None,
    card: Card | None = None,
    storage: Storage = "float32",
    keep: int | None = None,
) -> Path:
    """Save serving functions as `export_dir/name/<next integer>`, after proving that they serve.

    The version is written to a hidden sibling, loaded back in a fresh process the way TensorFlow
    Serving loads it, compared with the functions in memory, and only then renamed. Whatever goes
    wrong, a server that watches the folder never sees a version that isn't whole. Exporters of the
    same bundle wait for one another.

    With a `card` the bundle is complete: the version holds warm-up requests, batching parameters
    and the vocabulary, and beside the versions lie the model card and files that start a server.
    Each export writes those anew; one whose first line, which says so, was deleted is left alone.

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
            where no probes are given for it; every other signature needs some. Of a signature that
            takes long, as many are asked as a few seconds allow, each batch size at least once.
        tolerance: largest difference between the bundle's floats and the functions' in memory,
            absolute up to 1 and relative beyond. Everything else must be equal.
        tokenizer: with a card, whose files are put into `assets/tokenizer/`, for whoever wants to
            see or reuse the vocabulary; the graph doesn't read them. None for that of `modules`, if
            one has one.
        card: what the model card is to say. None for the bare SavedModel, which serves as well.
        storage: what matrices are stored as. They are cast to float32 once, when the server loads
            them: the bundle is half as large, requests and loaded memory cost what they did. The
            functions in memory are compared with their weights rounded likewise.
        keep: how many versions stay, this one included; older ones are removed. None for all.

    Returns:
        The new version's folder.

    Raises:
        InputError: the name is no bundle's name, the folder can't be written (disk full, no
            permission), or a weight is too large for `storage`.
        ExportError: the gate refused the model.
        ValueError: the signatures or the probes are not as described.

    Example:
        >>> export_bundle({"serving_default": classify}, "savedmodels", "sst2", modules=[model])
        PosixPath('savedmodels/sst2/1')
    """
    # TensorFlow is imported where it is used, so that a bad name is told at once.
    check_name(name)
    _check_choices(storage, keep)
    from tfllm.export import _memory, _saving

    if "serving_default" not in signatures:
        raise ValueError(f"signatures must hold 'serving_default'. Received: {list(signatures)}")
    traced = {
        key: function
        for key, function in signatures.items()
        if function.experimental_get_tracing_count()
    }
    with _saving.stored_as(storage, signatures, modules):
        cases = _memory.answered_cases(signatures, probes or {})
        _memory.check_fresh(traced, cases, tolerance)
    warmup = warmup_requests(cases) if card is not None else []
    tokenizer = _tokenizer_of(modules) if tokenizer is None else tokenizer
    with _locked(Path(export_dir) / name) as folder, _staging(folder) as staging:
        with _writing(folder):
            _saving.save(signatures, modules, staging, storage)
            if card is not None:
                _add_files(staging, name, warmup, tokenizer)
            byte_counts = _flush(staging)
        proof = gate.prove(staging, [*cases, *warmup], tolerance)
        beside = staging.with_name(f"{staging.name}-beside")
        with _writing(folder):
            number = _next_number(folder)
            if card is not None:
                text = card_text(
                    card, name, number, proof=proof, byte_counts=byte_counts, storage=storage
                )
                loaded = (1 if storage == "float32" else 2) * byte_counts.get("variables", 0)
                stage_beside(beside, {"README.md": text, **_server_files(name, loaded)})
            version = _publish(staging, folder, number)
        # From here on a failure can only be warned of.
        if card is not None:
            publish_beside(beside, folder)
        _remove_old(folder, number, keep)
    _LOG.info(
        "%s: %.1f MB, loads in %.1f s, gate %.1f s",
        version,
        sum(byte_counts.values()) / 1e6,
        proof.load_seconds,
        proof.seconds,
    )
    return version


def _check_choices(storage: str, keep: int | None) -> None:
    if storage not in get_args(Storage):
        choices = ", ".join(get_args(Storage))
        raise InputError(f"storage must be one of {choices}. Received: {storage!r}")
    if keep is not None and keep < 1:
        raise InputError(f"keep must be at least 1 version. Received: {keep}")


def _tokenizer_of(modules: Sequence[Any]) -> Any:
    """Find the tokenizer among what the functions read, or in a preprocessor there."""
    candidates = [getattr(module, "tokenizer", module) for module in modules]
    return next((c for c in candidates if hasattr(c, "fingerprint") and hasattr(c, "save")), None)


def _add_files(staging: Path, name: str, warmup: Sequence[Case], tokenizer: Any) -> None:
    from tfllm.export._warmup import write_warmup

    write_warmup(staging, name, warmup)
    (staging / "batching_params.pbtxt").write_text(batching_parameters(), encoding="ascii")
    if tokenizer is not None:
        (staging / "assets").mkdir(exist_ok=True)
        tokenizer.save(staging / "assets" / "tokenizer")


def _server_files(name: str, loaded_bytes: int) -> dict[str, str]:
    return {
        "models.config": models_config([ServedModel(name, f"/models/{name}")]),
        "monitoring.config": monitoring_config(),
        "docker-compose.yml": compose_file(name),
        "kubernetes.yaml": kubernetes_file(name, loaded_bytes),
    }


def check_name(name: str) -> None:
    """See that a bundle can be called so.

    Raises:
        InputError: with the rule, if it can't.
    """
    if not _NAME.fullmatch(name) or name.isdecimal() or len(name) > _LONGEST_NAME:
        raise InputError(
            f"a bundle's name must be letters, digits, '.', '_' and '-', not start with '.' or "
            f"'-', not be a number, and have at most {_LONGEST_NAME} characters; received "
            f"{name[:80]!r}" + "…" * (len(name) > 80)
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
    full = reason in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
    mend = "Free some space, or give" if full else "Give"
    return InputError(
        f"can't write the bundle {folder}: {reason}; nothing was published. {mend} another "
        "export_dir"
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
        for left in folder.glob(f"{staging.name}*"):
            shutil.rmtree(left, ignore_errors=True)


def _flush(folder: Path) -> dict[str, int]:
    """Put every file and folder on the disk, not in its cache; count bytes by their first name."""
    byte_counts: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            part = path.relative_to(folder).parts[0]
            byte_counts[part] = byte_counts.get(part, 0) + path.stat().st_size
            _fsync(path)
        _fsync(parent)
    return byte_counts


def _fsync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _next_number(folder: Path) -> int:
    number = max([0, *versions(folder)]) + 1
    if number > _LARGEST_VERSION:
        raise InputError(f"{folder} holds the largest version there is, {number - 1}: remove it")
    return number


def _publish(staging: Path, folder: Path, number: int) -> Path:
    """Give the staged version its number, in one step that a server can't see half of."""
    version = folder / str(number)
    os.rename(staging, version)
    with _warning_of(version, "is published, but may not outlast a power cut"):
        _fsync(folder)
    return version


@contextlib.contextmanager
def _warning_of(path: Path, what: str) -> Iterator[None]:
    """Go on after a failure of what is done once the version is there."""
    try:
        yield
    except OSError as error:
        _LOG.warning("%s %s: %s", path, what, error.strerror)


def _remove_old(folder: Path, newest: int, keep: int | None) -> None:
    """Remove all but the last versions, each in one step before it is emptied.

    Whatever else has a number for a name, and versions beyond the new one, stay.
    """
    if keep is None:
        return
    older = [
        path
        for number, path in versions(folder).items()
        if number < newest and (path / "saved_model.pb").is_file() and not path.is_symlink()
    ]
    for path in older[: max(0, len(older) - (keep - 1))]:
        hidden = folder / f"{_STAGING}{uuid.uuid4().hex}"
        with _warning_of(
            path, "should go, now that there is a newer version, but can't be removed"
        ):
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
