"""The documents that a language model trains on, is validated with and is tested on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfllm.data.cleaning.cleaner import Cleaner
from tfllm.data.python_docs import read_python_documentation
from tfllm.data.readers.tfds_sets import Tfds, split_tfds_name
from tfllm.data.text_files import (
    DocumentUnit,
    check_unit,
    find_files,
    read_documents,
    split_by_hash,
)
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

    @property
    def name(self) -> str:
        stem = self.files[0].name.split(".")[0]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "text"


@dataclass(frozen=True)
class _TfdsTexts:
    """The texts of a TFDS data set, read anew each time."""

    reader: Tfds

    def __iter__(self) -> Iterator[str]:
        for example in self.reader:
            if not example["text"].isspace() and example["text"]:
                yield example["text"]

    @property
    def name(self) -> str:
        return self.reader.name


@dataclass(frozen=True)
class _Cleaned:
    """Documents that are cleaned anew each time."""

    documents: Iterable[str]
    cleaner: Cleaner

    def __iter__(self) -> Iterator[str]:
        return self.cleaner.clean(self.documents)


def read_corpus(
    train: Sequence[str],
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    unit: DocumentUnit = "file",
    validation_fraction: float = 0.05,
    cleaner: Cleaner | None = None,
) -> Corpus:
    """Open text files, or without any the documentation that this Python carries.

    Args:
        train: paths and globs, of files packed with gzip or not; or one data set of TFDS alone,
            `tfds:name/config`, whose split is the part's name (`train`, `validation`, `test`)
            unless it is given, `tfds:name/config@train[:90%]`.
        validation: the same; without any, training documents are split by a hash.
        test: the same.
        unit: what one document of a file is; of TFDS, it is always one example.
        validation_fraction: share of the documents that the hash deals to validation.
        cleaner: cleans the training documents, before any are split off for validation. What is
            given as validation or test is scored as it stands.

    Raises:
        InputError: if a file can't be found or read, or a part would be empty.
    """
    check_unit(unit)
    if not train:
        documents = _cleaned(read_python_documentation(), cleaner)
        learnt, held_out = split_by_hash(list(documents), validation_fraction)
        return Corpus("pydoc", learnt, held_out, ())
    source = _open(train, "--train", unit)
    test_documents = _read_all(test, "--test", unit)
    documents = _cleaned(source, cleaner)
    if validation:
        _check_any(source, documents, "--train", train)
        held_out = _read_all(validation, "--validation", unit)
        return Corpus(source.name, documents, held_out, test_documents, has_own_validation=True)
    kept = list(documents)
    _check_any(source, kept, "--train", train)
    learnt, held_out = split_by_hash(kept, validation_fraction)
    return Corpus(source.name, learnt, held_out, test_documents)


def _open(patterns: Sequence[str], flag: str, unit: DocumentUnit) -> _TextFiles | _TfdsTexts:
    if len(patterns) == 1 and patterns[0].startswith("tfds:"):
        return _open_tfds(patterns[0], flag)
    return _TextFiles(find_files(patterns, flag), unit)


def _open_tfds(source: str, flag: str) -> _TfdsTexts:
    name, split = split_tfds_name(source, flag.lstrip("-"))
    try:
        texts = Tfds(name, (), split).text_features()
        feature = "text" if "text" in texts else texts[0] if len(texts) == 1 else None
        if feature is None:
            raise InputError(
                f"{source} has {len(texts)} features of text ({', '.join(texts) or 'none'}) and "
                "none that is called text. Give a data set with one"
            )
        return _TfdsTexts(Tfds(name, {"text": feature}, split))
    except InputError as error:
        raise InputError(f"{flag} {error}") from error


def _cleaned(documents: Iterable[str], cleaner: Cleaner | None) -> Iterable[str]:
    return documents if cleaner is None else _Cleaned(documents, cleaner)


def _read_all(patterns: Sequence[str], flag: str, unit: DocumentUnit) -> list[str]:
    if not patterns:
        return []
    source = _open(patterns, flag, unit)
    documents = list(source)
    _check_any(source, documents, flag, patterns)
    return documents


def _check_any(
    source: Iterable[str], documents: Iterable[str], flag: str, patterns: Sequence[str]
) -> None:
    """See that there is a document, and say whether it was cleaning that left none."""
    if next(iter(documents), None) is not None:
        return
    given = f"{flag} {' '.join(patterns)}"
    if next(iter(source), None) is None:
        raise InputError(f"{given} holds nothing but white space. Give text")
    raise InputError(
        f"{given}: cleaning removed every document; its rules are made for pages of 50 to 100,000 "
        "words. Give such documents, for example with --documents blank_line, or leave --clean out"
    )
