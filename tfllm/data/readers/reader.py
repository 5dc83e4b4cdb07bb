"""What all readers share: passes over files, and what becomes of rows that can't be read."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.skipped import Skipped
from tfllm.data.text_files import find_files
from tfllm.errors import InputError

__all__ = ["Example", "Located", "OnError", "Paths", "Reader"]

Example = dict[str, Any]
OnError = Literal["refuse", "skip"]
Paths = str | Path | Sequence[str | Path]
# File, or a data set's name; line or number in it; what stands there.
Located = tuple[Path | str, int | None, Example | BadRow]

# Goes up when a reader starts to read the same bytes otherwise.
_READING = 2
_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Reader(ABC):
    """Examples out of files, read anew in each pass and never all in memory.

    Iterating yields plain dictionaries of named fields. A file that can't be read at all raises
    `InputError`; so does a pass that finds no example.

    Attributes:
        on_error: `refuse`: the first row that can't be read ends the examples; reading goes on
            until ten such rows are found, and one `InputError` lists them. `skip`: such rows are
            left out and counted.
        skipped: what the pass that was begun last has left out so far.
    """

    on_error: OnError = "refuse"
    skipped: Skipped = field(default_factory=Skipped, init=False, repr=False, compare=False)

    # Fields that say where the data lies; the digest looks at the bytes there instead.
    _places: ClassVar[frozenset[str]] = frozenset({"paths"})

    def __post_init__(self) -> None:
        """Find the files, so that a wrong path is refused at once."""
        if self.on_error not in get_args(OnError):
            raise InputError(f"on_error is {self.on_error!r}, not one of {get_args(OnError)}")
        _ = self.files

    def __iter__(self) -> Iterator[Example]:
        """Begin a pass.

        Raises:
            InputError: see the class.
        """
        skipped = Skipped()
        object.__setattr__(self, "skipped", skipped)
        rows = self.rows()
        any_example = False
        for row in rows:
            if not isinstance(row, BadRow):
                any_example = True
                yield row
            elif self.on_error == "skip":
                skipped.add(row)
            else:
                raise _refusal(row, rows)
        if not any_example:
            raise self._nothing_read(skipped)

    def rows(self) -> Iterator[Example | BadRow]:
        """Yield examples, and rows that can't be read, in the order of the files."""
        for _, _, row in self.located():
            yield row

    def located(self) -> Iterator[Located]:
        """Yield the same, each with its file and line."""
        for path in self.files:
            for line, row in self._read(path):
                yield path, line, row

    def place(self, number: int) -> str:
        """Say where an example stands, `file:line`; reads again up to it.

        Args:
            number: of the example among those that a pass yields, from 0.
        """
        good = (found for found in self.located() if not isinstance(found[2], BadRow))
        path, line, _ = next(islice(good, number, None))
        return str(path) if line is None else f"{path}:{line}"

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that are read, in order."""
        return tuple(self._find())

    @property
    def name(self) -> str:
        """A short name, of letters, digits, `.`, `_` and `-`."""
        stem = self.files[0].name.split(".")[0]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "data"

    def digest(self) -> str:
        """Identify what is read: SHA-256 of the files' bytes, their order and the options.

        The files' names and places don't count, so a moved file is still the same source.

        Raises:
            InputError: if a file can't be read.
        """
        digest = hashlib.sha256(repr((_READING, type(self).__name__, self._options())).encode())
        for path in self.files:
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise InputError(f"{path} can't be read: {error.strerror or error}") from error
        return digest.hexdigest()

    def _options(self) -> list[tuple[str, Any]]:
        named = [f.name for f in fields(self) if f.init and f.name not in self._places]
        return [(name, getattr(self, name)) for name in sorted(named)]

    @abstractmethod
    def _find(self) -> Iterable[Path]:
        """Find the files."""

    def _read(self, path: Path) -> Iterator[tuple[int | None, Example | BadRow]]:
        """Read one file, with lines; readers that don't go file by file replace `located`."""
        raise NotImplementedError

    def _resolve(self, paths: Paths) -> list[Path]:
        listed = [paths] if isinstance(paths, str | Path) else paths
        return find_files([str(path) for path in listed], type(self).__name__)

    def _nothing_read(self, skipped: Skipped) -> InputError:
        where = ", ".join(str(path) for path in self.files[:3]) + ", …" * (len(self.files) > 3)
        if skipped.count:
            return InputError(
                f"{where}: none of {skipped.count:,} rows can be read, the first: "
                f"{skipped.samples[0]}. Is it of another format?"
            )
        return InputError(f"{where}: there is no example. Give a file with rows")


def _by_reason(bad: list[BadRow]) -> Iterator[str]:
    """Say each reason once, with the places of all rows that have it."""
    places: dict[str, list[str]] = {}
    for row in bad:
        places.setdefault(row.reason, []).append(row.place)
    for reason, found in places.items():
        others = f" (and so {', '.join(found[1:])})" if found[1:] else ""
        yield f"{found[0]} {reason}{others}"


def _refusal(first: BadRow, rest: Iterator[Example | BadRow]) -> InputError:
    bad = [first, *islice((row for row in rest if isinstance(row, BadRow)), _LISTED)]
    if len(bad) > _LISTED:
        head = f"more than {_LISTED} rows can't be read, the first {_LISTED}"
    elif len(bad) > 1:
        head = f"{len(bad)} rows can't be read"
    else:
        head = "one row can't be read"
    listed = "; ".join(_by_reason(bad[:_LISTED]))
    return InputError(
        f'{head}: {listed}. Mend them, or leave them out with on_error="skip" (--on_error skip)'
    )
