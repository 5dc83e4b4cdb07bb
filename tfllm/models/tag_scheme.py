"""What tags of words mean: which may follow which, and which words make an entity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tfllm.errors import InputError
from tfllm.layers.crf import Allowed

__all__ = ["BEGINS", "CONTINUES", "OUTSIDE", "Scheme", "TagMeanings", "allowed_tags", "meanings"]

Scheme = Literal["iob2"]

OUTSIDE, BEGINS, CONTINUES = range(3)
_KINDS = {"B": BEGINS, "I": CONTINUES}


class TagMeanings(NamedTuple):
    """What each class says of a word."""

    kinds: np.ndarray
    """`<int32>[classes]`: `OUTSIDE`, `BEGINS` or `CONTINUES` an entity."""
    types: np.ndarray
    """`<int32>[classes]`: place in `names`."""
    names: tuple[str, ...]
    """Types of entities; what is outside has the empty one."""


def meanings(labels: Sequence[str]) -> TagMeanings:
    """Read labels: `B-PER` begins a PER, `I-PER` continues one, `O` is outside.

    Any other label, such as a part of speech, is a type of its own, and each word one of it.
    """
    kinds, types = [], []
    for label in labels:
        prefix, dash, rest = label.partition("-")
        if label == "O":
            kind, name = OUTSIDE, ""
        elif prefix in _KINDS and dash and rest:
            kind, name = _KINDS[prefix], rest
        else:
            kind, name = BEGINS, label
        kinds.append(kind)
        types.append(name)
    names = tuple(sorted(set(types)))
    numbers = [names.index(name) for name in types]
    return TagMeanings(np.array(kinds, np.int32), np.array(numbers, np.int32), names)


def allowed_tags(labels: Sequence[str], scheme: Scheme | None) -> Allowed:
    """Say which tags may follow which.

    Args:
        labels: in the order of their numbers.
        scheme: `iob2`: `I-X` only after `B-X` or `I-X`; None: anything after anything.

    Raises:
        InputError: if the labels are not of the scheme, or the scheme is none.
    """
    if scheme is None:
        return Allowed.everything(len(labels))
    if scheme != "iob2":
        raise InputError(f"scheme must be 'iob2' or None. Received: {scheme!r}")
    _check_iob2(labels)
    kinds, types, _ = meanings(labels)
    starts = kinds != CONTINUES
    same_entity = (types[:, None] == types) & (kinds[:, None] != OUTSIDE)
    return Allowed(starts | same_entity, starts, np.ones(len(labels), bool))


def _check_iob2(labels: Sequence[str]) -> None:
    for label in labels:
        kind, dash, name = label.partition("-")
        if label != "O" and not (kind in _KINDS and dash and name):
            raise InputError(
                f"the scheme iob2 knows O, B-… and I-…, and one label is {label!r}. "
                "Give scheme=None (--scheme none) for tags of another kind"
            )
        if kind == "I" and f"B-{name}" not in labels:
            raise InputError(
                f"with the scheme iob2 an entity begins with B-, and there is {label!r} without "
                f"'B-{name}'. Convert the tags (IOB1 begins with I-), or give scheme=None"
            )
