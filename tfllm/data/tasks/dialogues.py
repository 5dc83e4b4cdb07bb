"""Dialogues of two speakers, out of files in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field
from tfllm.data.readers.lines import read_lines
from tfllm.data.readers.reader import Example, Located, OnError, Paths, Reader
from tfllm.data.showcase import Showcase
from tfllm.data.tasks.files import is_tfds, open_by_suffix, suffix_of
from tfllm.data.tasks.parts import Parts, open_parts
from tfllm.data.text_files import find_files
from tfllm.errors import InputError

__all__ = ["read_dialogues"]

_SUFFIXES = (".txt", ".jsonl", ".json", ".parquet")
# What chat files call who speaks, and what is said.
_NAME_KEYS, _TEXT_KEYS = ("speaker", "role", "from"), ("text", "content", "value")


def read_dialogues(
    train: Sequence[str],
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    turns: str = "turns",
    end_of_turn: str = "__eou__",
    speakers: tuple[str, str] = ("A", "B"),
    validation_fraction: float = 0.05,
    on_error: OnError = "refuse",
) -> Parts:
    """Open dialogues.

    Examples are `{"turns": [str, …], "speakers": [str, …]}`. A turn is one line: its line ends
    become spaces. Two speakers take turns; where the data does not name them, `speakers` does.

    Args:
        train: paths and globs: `.txt`, one dialogue a line; `.jsonl`, `.json` and `.parquet` with
            a list of turns in one field, texts or `{"speaker": …, "text": …}` (`role` and
            `content`, `from` and `value` will do); or one data set of TFDS with such a field.
        validation: the same; without any, training dialogues are split by a hash.
        test: the same.
        turns: key, column or feature of the turns.
        end_of_turn: what ends each turn of a `.txt`.
        speakers: names of the two.
        validation_fraction: share of the dialogues that the hash deals to validation.
        on_error: whether a dialogue that can't be read ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read.
    """
    if not end_of_turn.strip():
        raise InputError(f"--end_of_turn must not be blank. Received: {end_of_turn!r}")
    if not train:
        raise InputError("there are no dialogues: tfllm brings none. Give some with --train")

    def open_part(patterns: Sequence[str], flag: str) -> Reader:
        if not is_tfds(patterns):
            files = find_files(patterns, flag)
            if suffix_of(files, flag, _SUFFIXES) == ".txt":
                lines = _Lines(files)
                return _Dialogues(lines, "text", end_of_turn, speakers, on_error=on_error)
        field = {"turns": Field(turns, "any", flag="--turns")}
        rows = open_by_suffix(patterns, flag, field, on_error=on_error)
        return _Dialogues(rows, "turns", end_of_turn, speakers, on_error=on_error)

    return open_parts(
        open_part,
        train,
        validation,
        test,
        showcase=Showcase("rewriting"),
        split_by=["turns"],
        validation_fraction=validation_fraction,
    )


@dataclass(frozen=True)
class _Lines(Reader):
    """Lines of plain text, numbered; blank ones are passed over."""

    paths: Paths

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        for number, (line, fault) in enumerate(read_lines(path), 1):
            if fault:
                yield number, fault
            elif line.strip():
                yield number, {"text": line}


@dataclass(frozen=True)
class _Dialogues(Reader):
    """Dialogues out of rows, checked."""

    reader: Reader
    field: str
    end_of_turn: str
    speakers: tuple[str, str]

    @property
    def name(self) -> str:
        return self.reader.name

    def located(self) -> Iterator[Located]:
        for path, line, row in self.reader.located():
            try:
                yield path, line, row if isinstance(row, BadRow) else self._dialogue(row)
            except ValueError as error:
                yield path, line, BadRow(path, line, str(error))

    def digest(self) -> str:
        parts = (self.reader.digest(), self.end_of_turn, self.speakers)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _dialogue(self, row: Example) -> Example:
        value = row[self.field]
        if isinstance(value, str):
            value = self._cut(value)
        if not isinstance(value, list) or not value:
            raise ValueError(f"has the turns {value!r:.60}, not a list of them")
        said = [_said(turn, self.speakers[i % 2]) for i, turn in enumerate(value)]
        names = [name for name, _ in said]
        for i, name in enumerate(names):
            if name not in self.speakers:
                listed = " and ".join(self.speakers)
                raise ValueError(f"has the speaker {name!r:.60}, not {listed} (--speakers)")
            if i and name == names[i - 1]:
                raise ValueError(f"has the speaker {name!r} twice in a row, turns {i} and {i + 1}")
        return {"turns": [text for _, text in said], "speakers": names}

    def _cut(self, line: str) -> list[str]:
        """Cut a line; what ends its last turn may be missing, and a blank turn stays."""
        turns = line.split(self.end_of_turn)
        if len(turns) == 1:
            raise ValueError(f"has no {self.end_of_turn!r}, which ends a turn (--end_of_turn)")
        return turns if turns[-1].strip() else turns[:-1]

    def _find(self) -> tuple[Path, ...]:
        return self.reader.files


def _said(turn: Any, speaker: str) -> tuple[str, str]:
    """Who says what."""
    if isinstance(turn, Mapping):
        names = [turn[key] for key in _NAME_KEYS if key in turn]
        texts = [turn[key] for key in _TEXT_KEYS if key in turn]
        if not names or not texts:
            raise ValueError(f"has the turn {dict(turn)!r:.60}, without a speaker or a text")
        speaker, turn = names[0], texts[0]
    if not isinstance(turn, str) or not isinstance(speaker, str):
        raise ValueError(f"has the turn {turn!r:.60}, not text")
    text = " ".join(turn.split())
    if not text:
        raise ValueError("has a blank turn")
    return speaker, text
