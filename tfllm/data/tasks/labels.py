"""The names of labels, and labels that can't be learnt or scored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tfllm.data.readers.reader import Reader
from tfllm.errors import InputError

__all__ = ["check_labels", "label_counts", "label_names", "tag_names"]

# Above so many, names that hardly ever come back are something else.
_MOST_LABELS = 1000
_SHOWN = 20
_DIGITS = re.compile(r"([0-9]+)")


def label_counts(examples: Reader, field: str = "label") -> dict[str, int]:
    """Count how often each label stands in the examples, a list's each.

    Returns:
        name → number, in natural order: "2" before "10".

    Raises:
        InputError: if there are fewer than two labels, or nearly as many as examples.
    """
    counts: Counter[str] = Counter()
    rows = 0
    for example in examples:
        counts.update(_names(example[field]))
        rows += 1
    names = sorted(counts, key=lambda name: (_natural(name), name))
    if len(names) < 2:
        only = f"the label {names[0]!r} alone" if names else "no label"
        raise InputError(
            f"{examples.name}: all {rows:,} examples, the first at {examples.place(0)}, have "
            f"{only} in field {field!r}, and there is nothing to tell apart. Give examples of two "
            "labels at least"
        )
    if len(names) > max(_MOST_LABELS, rows // 2):
        raise InputError(
            f"{examples.name}: {rows:,} examples have {len(names):,} different labels in field "
            f"{field!r}, the first at {examples.place(0)} {names[0]!r:.60}. Name the column of the "
            "labels; where they are numbers to predict, ask for regression"
        )
    return {name: counts[name] for name in names}


def label_names(examples: Reader, field: str = "label") -> tuple[str, ...]:
    """Name the labels in natural order, which gives them their numbers; see `label_counts`."""
    return tuple(label_counts(examples, field))


def tag_names(examples: Reader, field: str = "tags", *, spans: bool = True) -> tuple[str, ...]:
    """Name the tags of words.

    Args:
        examples: with a list of tags each.
        field: the tags'.
        spans: whether they are IOB2: `O` comes first, then of each type `B-` and `I-`, whether or
            not both occur. Else all that occur, in natural order.

    Raises:
        InputError: see `label_counts`.
    """
    names = label_names(examples, field)
    if not spans:
        return names
    kinds = sorted({name.partition("-")[2] for name in names if name != "O"}, key=_natural)
    return "O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")


def check_labels(
    examples: Reader, labels: Sequence[str], *, field: str = "label", part: str = "--validation"
) -> None:
    """See that a part has no label that the training data lacks.

    Args:
        examples: of the part.
        labels: that the training data has.
        field: the labels'.
        part: what it is, for the message.

    Raises:
        InputError: with file and line of the first such example.
    """
    known = set(labels)
    first: tuple[int, str] | None = None
    rows = 0
    for number, example in enumerate(examples):
        unknown = [name for name in _names(example[field]) if name not in known]
        rows += bool(unknown)
        if unknown and first is None:
            first = number, unknown[0]
    if first is not None:
        listed = ", ".join(labels[:_SHOWN]) + ", …" * (len(labels) > _SHOWN)
        others = f"; {rows:,} examples have such labels" if rows > 1 else ""
        raise InputError(
            f"{part} {examples.place(first[0])} has the label {first[1]!r} in field {field!r}, "
            f"which the training data has not ({listed}){others}. Mend it, leave it out, or add "
            "examples of it to the training data"
        )


def _names(value: Any) -> Iterable[str]:
    return map(str, value) if isinstance(value, list | tuple) else (str(value),)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Digits are compared as numbers, and come before letters."""
    parts = _DIGITS.split(name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
