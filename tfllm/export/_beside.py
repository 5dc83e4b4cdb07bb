"""The files beside a bundle's versions: written anew by each export, unless a person took them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["MARK", "publish_beside", "stage_beside"]

MARK = "Written by tfllm with each export; delete this line and the file is yours."


_LOG = logging.getLogger(__name__)


def stage_beside(staging: Path, texts: Mapping[str, str]) -> None:
    """Write files, marked as ours, into a hidden folder.

    Args:
        staging: the folder, made here.
        texts: name → content.
    """
    staging.mkdir()
    for name, text in texts.items():
        mark = f"<!-- {MARK} -->" if name.endswith(".md") else f"# {MARK}"
        with (staging / name).open("w", encoding="utf-8") as file:
            file.write(f"{mark}\n{text}")
            file.flush()
            os.fsync(file.fileno())


def publish_beside(staging: Path, folder: Path) -> None:
    """Rename them into the bundle's folder, but for those that a person has made their own.

    The version is published by then: a file that can't be replaced is warned of.
    """
    for path in sorted(staging.iterdir()):
        target = folder / path.name
        try:
            if not target.exists() or _is_ours(target):
                path.rename(target)
        except OSError as error:
            _LOG.warning(
                "the version is published, but %s beside it can't be replaced and is the old one: "
                "%s. Mend that, and the next export writes it",
                target,
                error.strerror,
            )


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.readline(200)
