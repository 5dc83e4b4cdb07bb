"""One field of an example: where it stands in a row, and what it must be."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tfllm.errors import InputError

__all__ = ["Field", "Fields", "Kind", "as_fields", "named_by", "shorten", "take_fields"]

Kind = Literal["text", "label", "integer", "number", "texts", "labels", "any"]
_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclasses.dataclass(frozen=True)
class Field:
    """Where a field stands in a row, and what it must be.

    Attributes:
        key: name of the column, or of the JSON object's key.
        kind: `text`: a str; `label`: a str, int, float or bool, as it stands; `integer` and
            `number`: an int and a finite float, out of text too; `texts`: a list of str;
            `labels`: a list of labels, or text in which commas part them; `any`: whatever is not
            null.
        default: for rows that lack the key; None if they are bad rows.
        blank: whether text of white space alone will do.
        flag: which flag names it, for messages.
    """

    key: str
    kind: Kind = "text"
    default: Any = None
    blank: bool = True
    flag: str = dataclasses.field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in _READ:
            raise InputError(
                f"the kind of field {self.key!r} must be one of {', '.join(_READ)}. Received: "
                f"{self.kind!r}"
            )

    def read(self, value: Any) -> Any:
        """Check a value, and turn text into a number where one is wanted.

        Raises:
            ValueError: with the reason, if it is not of the field's kind.
        """
        if value is None:
            raise ValueError(f"field {self.key!r} is null")
        if not self.blank and isinstance(value, str) and not value.strip():
            raise ValueError(f"field {self.key!r} is blank")
        try:
            return _READ[self.kind](value)
        except ValueError as error:
            raise ValueError(f"field {self.key!r} {error}") from None


Fields = Mapping[str, str | Field] | Sequence[str]


def as_fields(fields: Fields) -> dict[str, Field]:
    """Name each field of an example: a key alone stands for text, a list for keys as names."""
    if not isinstance(fields, Mapping):
        fields = {key: key for key in fields}
    return {
        name: field if isinstance(field, Field) else Field(field) for name, field in fields.items()
    }


def take_fields(row: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Take the fields of an example out of a row.

    Raises:
        ValueError: with the reason, if the row lacks one or it is not of its kind.
    """
    example = {}
    for name, field in fields.items():
        if field.key in row:
            example[name] = field.read(row[field.key])
        elif field.default is not None:
            example[name] = field.default
        else:
            has = ", ".join(repr(key) for key in row) or "none"
            missing = f"has no field {field.key!r}{named_by(field)}"
            raise ValueError(f"{missing}; its fields: {shorten(has)}")
    return example


def named_by(field: Field) -> str:
    """Say which flag named a field that is missing."""
    return f", which {field.flag} names" if field.flag else ""


def shorten(text: str, length: int = 60) -> str:
    """Cut text that goes into a message."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _shown(value: Any) -> str:
    return shorten(ascii(value) if isinstance(value, str) else repr(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {_shown(value)}, not text")
    if not value.isascii():
        # JSON can spell halves of a surrogate pair, which are no characters and have no UTF-8.
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = ord(value[error.start])
            raise ValueError(f"holds \\u{half:04x}, half of a surrogate pair") from None
    return value


def _label(value: Any) -> str | int | float:
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return _text(value)
    raise ValueError(f"is {_shown(value)}, not a label (text or a number)")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value) and len(value) < 20:
        return int(value)
    raise ValueError(f"is {_shown(value)}, not an integer")


def _number(value: Any) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            # Python alone takes 1_000 for a number.
            number = math.nan if isinstance(value, str) and "_" in value else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"is {_shown(value)}, not a finite number")


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"is {_shown(value)}, not a list of texts")
    return [_text(text) for text in value]


def _labels(value: Any) -> list[str | int | float]:
    if isinstance(value, str):
        parts = [part.strip() for part in _text(value).split(",")]
        if "" in parts and parts != [""]:
            raise ValueError(f"is {_shown(value)}, with nothing between two commas")
        return [part for part in parts if part]
    if not isinstance(value, list):
        raise ValueError(f"is {_shown(value)}, not a list of labels")
    return [_label(label) for label in value]


def _any(value: Any) -> Any:
    return value


_READ = {
    "text": _text,
    "label": _label,
    "integer": _integer,
    "number": _number,
    "texts": _texts,
    "labels": _labels,
    "any": _any,
}
