"""Questions with contexts and answers, out of files in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field
from tfllm.data.readers.reader import Example, Located, OnError, Reader
from tfllm.data.readers.squad import Squad, check_answer
from tfllm.data.showcase import Showcase
from tfllm.data.tasks.files import is_tfds, open_by_suffix, suffix_of
from tfllm.data.tasks.parts import Parts, open_parts
from tfllm.data.text_files import find_files

__all__ = ["read_questions"]

_SUFFIXES = (".json", ".jsonl", ".parquet")
_FIELDS = {
    "id": Field("id", "label", default=""),
    "question": Field("question", blank=False),
    "context": Field("context", blank=False),
    "answers": Field("answers", "any"),
}


def read_questions(
    train: Sequence[str] = (),
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    validation_fraction: float = 0.05,
    on_error: OnError = "refuse",
) -> Parts:
    """Open questions, or without any those that tfllm brings.

    Examples are `{"id": str, "question": str, "context": str, "answers": [str, …],
    "answer_starts": [int, …]}`, starts in characters; a question that its context does not answer
    has no answers.

    Args:
        train: paths and globs: `.json` of SQuAD (1.1 or 2.0); `.jsonl` and `.parquet` with the
            fields `question`, `context` and `answers`, `{"text": […], "answer_start": […]}`; or
            one data set of TFDS in that form, see `read_examples`.
        validation: the same; without any, training contexts are split by a hash, so that no
            context is on both sides.
        test: the same.
        validation_fraction: share of the contexts that the hash deals to validation.
        on_error: whether a question that can't be read ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read.
    """

    def open_part(patterns: Sequence[str], flag: str) -> Reader:
        if not is_tfds(patterns):
            files = find_files(patterns, flag)
            if suffix_of(files, flag, _SUFFIXES) == ".json":
                return Squad(files, on_error=on_error)
        return _QuestionRows(
            open_by_suffix(patterns, flag, _FIELDS, on_error=on_error), on_error=on_error
        )

    return open_parts(
        open_part,
        train,
        validation,
        test,
        showcase=Showcase("answers"),
        split_by=["context"],
        validation_fraction=validation_fraction,
    )


@dataclass(frozen=True)
class _QuestionRows(Reader):
    """Rows whose answers stand together, taken apart and checked."""

    reader: Reader

    @property
    def name(self) -> str:
        return self.reader.name

    def located(self) -> Iterator[Located]:
        for path, line, row in self.reader.located():
            try:
                yield path, line, row if isinstance(row, BadRow) else _apart(row)
            except ValueError as error:
                yield path, line, BadRow(path, line, str(error))

    def digest(self) -> str:
        return hashlib.sha256(f"questions {self.reader.digest()}".encode()).hexdigest()

    def _find(self) -> tuple[Path, ...]:
        return self.reader.files


def _apart(row: Example) -> Example:
    answers: Any = row["answers"]
    if not isinstance(answers, Mapping):
        raise ValueError(f"has the answers {answers!r:.60}, not a text and an answer_start")
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise ValueError(f"has the answers {dict(answers)!r:.60}, not two lists of one length")
    pairs = [
        {"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)
    ]
    found = [check_answer(pair, row["context"]) for pair in pairs]
    return {
        "id": str(row["id"]),
        "question": row["question"],
        "context": row["context"],
        "answers": [text for text, _ in found],
        "answer_starts": [start for _, start in found],
    }
