"""SQuAD's JSON, versions 1.1 and 2.0."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field, shorten, take_fields
from tfllm.data.readers.reader import Example, Paths, Reader
from tfllm.data.text_files import not_utf8, open_bytes
from tfllm.errors import InputError

__all__ = ["Squad", "check_answer", "paragraphs_of"]

_QUESTION = {"id": Field("id"), "question": Field("question", blank=False)}
_ANSWER = {"text": Field("text"), "start": Field("answer_start", "integer")}


@dataclass(frozen=True)
class Squad(Reader):
    """One example a question.

    `{"id": str, "title": str, "question": str, "context": str, "answers": [str, …],
    "answer_starts": [int, …], "is_impossible": bool}`; starts count characters (code points) of
    the context, and the context is checked to hold each answer there. A question that 2.0 calls
    impossible has no answers.

    A whole file is parsed at once (30 MB of JSON take about 120 MB); bad rows are named by the
    question's number in its file.

    Attributes:
        paths: paths and globs, packed with gzip or not.
        needs_answers: whether a question without answers that is not called impossible is a bad
            row; False to read questions that are to be answered.
    """

    paths: Paths
    needs_answers: bool = True

    def _find(self) -> list[Path]:
        return self._resolve(self.paths)

    def _read(self, path: Path) -> Iterator[tuple[int, Example | BadRow]]:
        number = 0
        for title, context, question in _questions(path):
            number += 1
            try:
                yield number, self._example(title, context, question)
            except ValueError as error:
                shown = question.get("id") if isinstance(question, dict) else None
                yield number, BadRow(path, number, f"(question {shown!r}) {error}")

    def _example(self, title: object, context: object, question: object) -> Example:
        if not isinstance(question, dict):
            raise ValueError("is no JSON object")
        example = take_fields(question, _QUESTION)
        example["title"] = Field("title").read(title)
        example["context"] = Field("context", blank=False).read(context)
        impossible = question.get("is_impossible", False) is True
        answers = [] if impossible else _list(question, "answers", self.needs_answers)
        if not answers and self.needs_answers and not impossible:
            raise ValueError("has no answer and is not called impossible")
        found = [check_answer(answer, example["context"]) for answer in answers]
        example["answers"] = [text for text, _ in found]
        example["answer_starts"] = [start for _, start in found]
        example["is_impossible"] = impossible
        return example


def check_answer(answer: object, context: str) -> tuple[str, int]:
    """Give an answer's text and its first character.

    Args:
        answer: `{"text", "answer_start"}`.
        context: where it must stand.

    Raises:
        ValueError: with the reason, if it does not.
    """
    if not isinstance(answer, dict):
        raise ValueError("has an answer that is no JSON object")
    fields = take_fields(answer, _ANSWER)
    text, start = fields["text"], fields["start"]
    if start < 0 or context[start : start + len(text)] != text or not text:
        there = context[max(start, 0) :][: len(text)]
        raise ValueError(f"has the answer {text!r} at {start}, where the context has {there!r}")
    return text, start


def paragraphs_of(path: Path) -> Iterator[tuple[object, Any]]:
    """Walk down to the paragraphs, each with its article's title.

    Raises:
        InputError: if the file can't be read, or has another shape on the way.
    """
    tree = _load(path)
    try:
        for article in _list(tree, "data"):
            for paragraph in _list(article, "paragraphs"):
                yield article.get("title", ""), paragraph
    except ValueError as error:
        raise _other_format(path, error) from error


def _questions(path: Path) -> Iterator[tuple[object, object, Any]]:
    for title, paragraph in paragraphs_of(path):
        try:
            questions = _list(paragraph, "qas")
        except ValueError as error:
            raise _other_format(path, error) from error
        for question in questions:
            yield title, paragraph.get("context"), question


def _other_format(path: Path, error: ValueError) -> InputError:
    return InputError(f"{path} is no SQuAD file: it {error}. Give SQuAD's JSON")


def _list(parent: object, key: str, needed: bool = True) -> list[Any]:
    found = parent.get(key) if isinstance(parent, dict) else None
    if found is None and not needed:
        return []
    if not isinstance(found, list):
        raise ValueError(f"has no list {key!r} where one belongs")
    return found


def _load(path: Path) -> Any:
    try:
        with open_bytes(path) as data, io.TextIOWrapper(data, "utf-8-sig") as file:
            return json.load(file)
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno} is no JSON: {error.msg} at column {error.colno}. "
            "Give SQuAD's JSON, one object in all"
        ) from error
    except InputError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{path} can't be read: {shorten(str(error))}. Mend it") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deep. Give SQuAD's JSON") from error
