"""The documents that a language model trains on, is validated with and is tested on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.python_docs import read_python_documentation
from tfllm.data.text_files import DocumentUnit, find_files, read_documents, split_by_hash
from tfllm.errors import InputError

__all__ = ["Corpus", "DocumentUnit", "read_corpus"]

_PROMPT_CHARACTERS = 240


@dataclass(frozen=True)
class Corpus:
    """Documents in three parts.

    Attributes:
        name: a short one, of letters, digits, `.`, `_` and `-`.
        train: can be read again and again; streams from files where it is not split.
        validation: documents held out.
        test: documents scored once, at the end; may be empty.
        has_own_validation: whether validation came in files of its own.
    """

    name: str
    train: Iterable[str]
    validation: Sequence[str]
    test: Sequence[str]
    has_own_validation: bool = False

    def parts(self) -> list[tuple[str, Iterable[str]]]:
        """Name the parts that hold documents, as a person knows them."""
        held_out = "--validation" if self.has_own_validation else "what is held out for validation"
        parts = [("--train", self.train), (held_out, self.validation), ("--test", self.test)]
        return [(name, documents) for name, documents in parts if name != "--test" or self.test]

    def prompts(self, count: int) -> list[tuple[str, str]]:
        """Cut beginnings out of validation documents, the longest documents first.

        Args:
            count: how many; the same document serves again where there are fewer.

        Returns:
            pairs of a prompt and how the document really goes on, each some hundred characters,
            cut between words where there are spaces.
        """
        longest = sorted(self.validation, key=len, reverse=True)[:count]
        pairs = []
        for i in range(count):
            document = longest[i % len(longest)]
            half = min(_PROMPT_CHARACTERS, len(document) // 2)
            start = (i // len(longest)) * half
            words = document[start : start + 2 * half]
            cut = words.rfind(" ", 0, half)
            cut = cut if cut > 0 else half
            pairs.append((words[:cut], words[cut:]))
        return pairs


@dataclass(frozen=True)
class _TextFiles:
    """Documents of files, read anew each time, so that a large corpus never is in memory."""

    files: Sequence[Path]
    unit: DocumentUnit

    def __iter__(self) -> Iterator[str]:
        return read_documents(self.files, self.unit)


def read_corpus(
    train: Sequence[str],
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    unit: DocumentUnit = "file",
    validation_fraction: float = 0.05,
) -> Corpus:
    """Open text files, or without any the documentation that this Python carries.

    Args:
        train: paths and globs.
        validation: paths and globs; without them, training documents are split by a hash.
        test: paths and globs.
        unit: what one document is.
        validation_fraction: share of the documents that the hash deals to validation.

    Raises:
        InputError: if a file can't be found or read, or a part would be empty.
    """
    if not train:
        learnt, held_out = split_by_hash(read_python_documentation(), validation_fraction)
        return Corpus("pydoc", learnt, held_out, ())
    files = find_files(train, "--train")
    test_documents = _read_all(test, "--test", unit)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", files[0].name.split(".")[0]).strip("-.") or "text"
    if validation:
        documents: Iterable[str] = _TextFiles(files, unit)
        if next(iter(documents), None) is None:
            raise _blank("--train", train)
        held_out = _read_all(validation, "--validation", unit)
        return Corpus(name, documents, held_out, test_documents, has_own_validation=True)
    documents = _read_all(train, "--train", unit)
    learnt, held_out = split_by_hash(documents, validation_fraction)
    return Corpus(name, learnt, held_out, test_documents)


def _read_all(patterns: Sequence[str], flag: str, unit: DocumentUnit) -> list[str]:
    if not patterns:
        return []
    documents = list(read_documents(find_files(patterns, flag), unit))
    if not documents:
        raise _blank(flag, patterns)
    return documents


def _blank(flag: str, patterns: Sequence[str]) -> InputError:
    return InputError(f"{flag} {' '.join(patterns)} holds nothing but white space. Give text")
