"""Dealing examples to training and validation by a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.reader import Located, Reader
from tfllm.data.text_files import hash_place
from tfllm.errors import InputError

__all__ = ["Side", "split_examples"]


def split_examples(
    reader: Reader, fields: tuple[str, ...], validation_fraction: float
) -> tuple[Side, Side]:
    """Deal examples to training and validation by a hash of some of their fields.

    So an example stays on its side when others are added, removed or moved, and examples with
    equal fields are never on both sides. Reads all of them once, and keeps none.

    Args:
        reader: of the examples.
        fields: which count: the texts, without the label.
        validation_fraction: share of the examples for validation, above 0 and below 1.

    Raises:
        InputError: if the fields are equal in all examples.
    """
    places = [_place(example, fields) for example in reader]
    if len(places) == 1:
        raise InputError(
            f"{reader.name}: there is only one example, which can't be split into training and "
            "validation. Give more, or --validation"
        )
    least, most = min(places), max(places)
    if least == most:
        raise InputError(
            f"{reader.name}: all {len(places):,} examples have the same {' and '.join(fields)}, "
            "and can't be split into training and validation. Give more, or --validation"
        )
    # Where there are few examples, each side gets at least the one that is nearest to it.
    limit = min(max(validation_fraction, least), most - 2**-49)
    sides = [
        Side(reader=reader, fields=fields, limit=limit, held_out=held, on_error=reader.on_error)
        for held in (False, True)
    ]
    return sides[0], sides[1]


@dataclass(frozen=True)
class Side(Reader):
    """The examples of one side; bad rows count on the side of training.

    Attributes:
        reader: of both sides.
        fields: which count.
        limit: examples up to here are held out.
        held_out: which side this is.
    """

    reader: Reader
    fields: tuple[str, ...]
    limit: float
    held_out: bool

    @property
    def name(self) -> str:
        """That of both sides."""
        return self.reader.name

    def located(self) -> Iterator[Located]:
        """Yield the examples of this side."""
        for path, line, row in self.reader.located():
            bad = isinstance(row, BadRow)
            if bad and not self.held_out:
                yield path, line, row
            elif not bad and (_place(row, self.fields) <= self.limit) == self.held_out:
                yield path, line, row

    def digest(self) -> str:
        """Identify what is read."""
        parts = (self.reader.digest(), self.fields, self.limit, self.held_out)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _find(self) -> tuple[Path, ...]:
        return self.reader.files


def _place(example: Any, fields: tuple[str, ...]) -> float:
    return hash_place(json.dumps([example[field] for field in fields]))
