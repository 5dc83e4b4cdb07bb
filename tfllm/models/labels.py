"""Names of classes: checked, listed for a person, and read from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from tfllm.errors import InputError

__all__ = ["check_names", "check_same_labels", "labels_of", "listed"]


def check_names(labels: Sequence[str]) -> list[str]:
    """Give labels as a list.

    Raises:
        InputError: if one is no name, or stands twice.
    """
    labels = list(labels)
    strange = [label for label in labels if not isinstance(label, str) or not label]
    if strange:
        raise InputError(f"labels must be names. Received: {strange[0]!r} in {listed(labels)}")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(f"labels must differ. Received: {twice[0]!r} more than once")
    return labels


def labels_of(config: PretrainedConfig) -> tuple[str, ...]:
    """Read the labels of a configuration, in the order of their numbers."""
    names = {int(i): label for i, label in config.id2label.items()}
    return tuple(names[i] for i in sorted(names))


def check_same_labels(
    name_or_folder: str | Path, own: Sequence[str], labels: Sequence[str] | None, *, what: str
) -> None:
    """Refuse labels that differ from those of the head that is there.

    Args:
        name_or_folder: where the head comes from.
        own: its labels.
        labels: those asked for; None where none are.
        what: what the head is, for the message.

    Raises:
        InputError: naming both.
    """
    if labels is not None and tuple(labels) != tuple(own):
        raise InputError(
            f"{name_or_folder} holds a {what} of {listed(own)}, and labels are {listed(labels)}. "
            "Leave labels out, or put a new head on its backbone (--new_head)"
        )


def listed(values: Sequence[Any]) -> str:
    """List up to ten values, and how many there are."""
    shown = ", ".join(str(value) for value in values[:10])
    return shown if len(values) <= 10 else f"{shown}, … ({len(values)} in all)"
