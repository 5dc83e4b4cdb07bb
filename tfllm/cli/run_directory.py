"""Which folder a run goes into, and why it can't go into another."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import tempfile
from pathlib import Path

from tfllm.cli.common_config import CommonConfig
from tfllm.errors import InputError

__all__ = ["FINISHED", "UNFINISHED", "check_writable", "choose_directory"]

UNFINISHED = "config.json"
FINISHED = "run.json"
# Flags that may differ between a run and its continuation.
_FREE = {
    "run_dir",
    "resume",
    "export_dir",
    "export_name",
    "dry_run",
    "checkpoint_minutes",
    "checkpoint_steps",
    "keep_checkpoints",
    "profile_steps",
}


def choose_directory(config: CommonConfig, recipe: str) -> Path:
    """Find the folder for a run, which is not made yet.

    Returns:
        `config.run_dir`, or else the first of `runs/RECIPE`, `runs/RECIPE-2` … that is free or
        holds an unfinished run with the same flags.

    Raises:
        InputError: if `config.run_dir` can't be written or continued.
    """
    if config.run_dir is not None:
        directory = Path(config.run_dir)
        check_writable(directory, "run_dir")
        obstacle = _obstacle(directory, config)
        if obstacle:
            raise InputError(f"--run_dir {directory} {obstacle}. Give another --run_dir")
        return directory
    check_writable(Path("runs"), "run_dir")
    number = 1
    while True:
        directory = Path("runs") / (recipe if number == 1 else f"{recipe}-{number}")
        if _obstacle(directory, config) is None:
            return directory
        number += 1


def _obstacle(directory: Path, config: CommonConfig) -> str | None:
    """Why a run can't go into a folder, or None."""
    if (directory / FINISHED).exists():
        return "holds a finished run"
    if not (directory / UNFINISHED).exists():
        return None
    if config.resume == "never":
        return "holds an unfinished run, and --resume is never"
    try:
        before = dict(json.loads((directory / UNFINISHED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"holds an unreadable {UNFINISHED}"
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    changed = [
        f"{name} was {before.get(name)!r} and is {value!r}"
        for name, value in now.items()
        if name not in _FREE and before.get(name) != value
    ]
    return f"holds an unfinished run with other flags: {'; '.join(changed)}" if changed else None


def check_writable(directory: Path, flag: str) -> None:
    """Fail before the work and not after it. Makes nothing."""
    place = directory.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    reason = None
    if not os.path.isdir(place):
        reason = f"{place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is not writable"
    elif not _takes_files(place):
        reason = f"{place} takes no files"
    elif max(len(part.encode()) for part in directory.absolute().parts) > 255:
        reason = "a name in it is longer than 255 bytes"
    if reason:
        raise InputError(f"--{flag} {directory} can't be made: {reason}. Give another --{flag}")


def _takes_files(folder: Path) -> bool:
    """Try a file without a name; a full disk is not this function's matter."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return True
