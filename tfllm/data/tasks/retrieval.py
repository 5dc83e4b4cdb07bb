"""A corpus, and queries with the documents that answer them, out of files in one call."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.data.judged import Judged
from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.beir import Beir
from tfllm.data.readers.field import Field
from tfllm.data.readers.reader import Located, OnError, Reader
from tfllm.data.showcase import Showcase
from tfllm.data.tasks.documents import read_documents
from tfllm.data.tasks.files import open_by_suffix
from tfllm.data.text_files import hash_place
from tfllm.errors import InputError

__all__ = ["RetrievalParts", "read_retrieval"]


@dataclass(frozen=True)
class RetrievalParts:
    """A corpus with queries in three parts.

    Attributes:
        name: a short one, of letters, digits, `.`, `_` and `-`.
        documents: examples `{"id", "title", "text"}`, which can be read again.
        place_of: document's id → its number among them.
        train: to learn from.
        validation: held out: no query is in both.
        test: scored once, at the end, or None.
    """

    name: str
    documents: Iterable[dict[str, Any]]
    place_of: dict[str, int]
    train: Judged
    validation: Judged
    test: Judged | None

    def __str__(self) -> str:
        """Say how much it is, for a person."""
        return (
            f"{len(self.place_of):,} documents, {len(self.train.queries):,} queries to learn from, "
            f"{len(self.validation.queries):,} to validate with"
        )


def read_retrieval(
    train: Sequence[str] = (),
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    judged: str = "train",
    validation_judged: str | None = None,
    test_judged: str | None = None,
    query: str = "query",
    document: str = "document",
    negatives: str = "negatives",
    validation_fraction: float = 0.05,
    on_error: OnError = "refuse",
) -> RetrievalParts:
    """Open queries with their documents, or without any those that tfllm brings.

    In memory are queries, judgements and ids; of pairs the texts too.

    Args:
        train: one folder in BEIR's layout; or paths and globs of pairs, see `open_by_suffix`, whose
            documents together are the corpus. Equal texts are one query or document.
        validation: pairs; without any, training queries are split by a hash of their texts.
        test: pairs.
        judged: of a folder, which `qrels` to learn from.
        validation_judged: which to validate with; None: training queries are split.
        test_judged: which to test with.
        query: field of a pair's query.
        document: field of the document that answers it.
        negatives: field of a list of texts that do not, which may be missing.
        validation_fraction: share of the queries that the hash deals to validation.
        on_error: whether a row that can't be read ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read, there are fewer than two documents, or too
            few queries are judged.
    """
    is_folder = len(train) == 1 and os.path.isdir(train[0])
    if is_folder or not train:
        given = {"query": query, "document": document, "negatives": negatives}
        for name, field in given.items():
            if field != name:
                raise InputError(
                    f"--{name} names a field of pairs, and --train names no file of pairs. "
                    f"Received: {field}. Leave it out"
                )
    if is_folder:
        if validation or test:
            raise InputError(
                f"--train {train[0]} is a folder in BEIR's layout, and its queries are named by "
                "--validation_judged and --test_judged. Leave --validation and --test out"
            )
        return _of_folder(
            train[0], judged, validation_judged, test_judged, validation_fraction, on_error
        )
    if validation_judged or test_judged or judged != "train":
        raise InputError(
            "--judged, --validation_judged and --test_judged are for a folder in BEIR's layout. "
            "Give it as --train, or files of pairs as --train, --validation and --test"
        )

    def open_part(patterns: Sequence[str], flag: str) -> Reader:
        fields = {
            "query": Field(query, blank=False, flag="--query"),
            "document": Field(document, blank=False, flag="--document"),
            "negatives": Field(negatives, "texts", default=[], flag="--negatives"),
        }
        return _Pairs(open_by_suffix(patterns, flag, fields, on_error=on_error), on_error=on_error)

    if not train:
        return _of_pairs(_Pairs(Showcase("search")), None, None, validation_fraction)
    return _of_pairs(
        open_part(train, "--train"),
        open_part(validation, "--validation") if validation else None,
        open_part(test, "--test") if test else None,
        validation_fraction,
    )


def _of_folder(
    folder: str,
    judged: str,
    validation_judged: str | None,
    test_judged: str | None,
    validation_fraction: float,
    on_error: OnError,
) -> RetrievalParts:
    readers = {
        flag: _beir(folder, split, flag, on_error)
        for flag, split in (
            ("--judged", judged),
            ("--validation_judged", validation_judged),
            ("--test_judged", test_judged),
        )
        if split is not None
    }
    documents = read_documents([folder], flag="--train", on_error=on_error)
    place_of = {row["id"]: place for place, row in enumerate(documents)}
    found = {flag: _judged(reader, place_of, flag) for flag, reader in readers.items()}
    train, validation = found["--judged"], found.get("--validation_judged")
    name = readers["--judged"].name
    if validation is None:
        train, validation = _split(train, validation_fraction, name)
    _check_documents(place_of, name)
    return RetrievalParts(name, documents, place_of, train, validation, found.get("--test_judged"))


def _beir(folder: str, split: str, flag: str, on_error: OnError) -> Beir:
    try:
        return Beir(folder, split, on_error=on_error)
    except InputError as error:
        raise InputError(f"{flag} {split}: {error}") from error


def _judged(reader: Beir, place_of: dict[str, int], flag: str) -> Judged:
    judged = Judged()
    for pair in reader:
        if pair["document_id"] in place_of:  # else it was left out, by --on_error skip
            judged.add(pair["query_id"], pair["query"], pair["document_id"], pair["score"])
    return _with_answers(judged, f"{flag} {reader.split}")


def _of_pairs(
    train: Reader, validation: Reader | None, test: Reader | None, validation_fraction: float
) -> RetrievalParts:
    place_of_text: dict[str, int] = {}

    def id_of(text: str) -> str:
        return str(1 + place_of_text.setdefault(text, len(place_of_text)))

    def judged_of(reader: Reader) -> Judged:
        judged, ids = Judged(), dict[str, str]()
        for pair in reader:
            query = pair["query"]
            # No document's id: a document with the id of its query would count as the query itself.
            name = ids.setdefault(query, f"q{1 + len(ids)}")
            judged.add(name, query, id_of(pair["document"]), 1)
            if pair["negatives"]:
                chosen = judged.negatives.setdefault(name, [])
                chosen += [n for n in map(id_of, pair["negatives"]) if n not in chosen]
        return judged

    learnt = judged_of(train)
    held_out = None if validation is None else judged_of(validation)
    tested = None if test is None else judged_of(test)
    if held_out is None:
        learnt, held_out = _split(learnt, validation_fraction, train.name)
    documents = [
        {"id": str(1 + place), "title": "", "text": text} for text, place in place_of_text.items()
    ]
    place_of = {row["id"]: place for place, row in enumerate(documents)}
    _check_documents(place_of, train.name)
    return RetrievalParts(train.name, documents, place_of, learnt, held_out, tested)


def _check_documents(place_of: dict[str, int], name: str) -> None:
    if len(place_of) < 2:
        raise InputError(
            f"--train {name}: there is only one document, and nothing to tell it from. Give two at "
            "least"
        )


def _with_answers(judged: Judged, where: str) -> Judged:
    if not any(score > 0 for scores in judged.scores.values() for score in scores.values()):
        raise InputError(
            f"{where}: no query has a document that answers it. Give judgements above 0"
        )
    return judged


def _split(judged: Judged, fraction: float, name: str) -> tuple[Judged, Judged]:
    """Deal queries to training and validation by a hash of their texts; at least one each."""
    answered = [
        name for name, scores in judged.scores.items() if any(s > 0 for s in scores.values())
    ]
    place = {name: hash_place(json.dumps([judged.queries[name]])) for name in judged.queries}
    if len({place[query] for query in answered}) < 2:
        raise InputError(
            f"--train {name}: there is only one query, which can't be split into training and "
            "validation. Give more, or --validation or --validation_judged"
        )
    least, most = (limit(place[query] for query in answered) for limit in (min, max))
    limit = min(max(fraction, least), most - 2**-49)
    sides = [
        judged.some([query for query in place if (place[query] <= limit) == held_out])
        for held_out in (False, True)
    ]
    return sides[0], sides[1]


@dataclass(frozen=True)
class _Pairs(Reader):
    """Pairs whose negatives are looked at too, all texts without space around them."""

    reader: Reader

    @property
    def name(self) -> str:
        return self.reader.name

    def located(self) -> Iterator[Located]:
        for path, line, row in self.reader.located():
            if isinstance(row, BadRow):
                yield path, line, row
                continue
            negatives = [text.strip() for text in row["negatives"]]
            if not all(negatives):
                yield path, line, BadRow(path, line, "has a blank text among its negatives")
                continue
            pair = {name: row[name].strip() for name in ("query", "document")}
            yield path, line, {**pair, "negatives": negatives}

    def digest(self) -> str:
        return hashlib.sha256(f"pairs 1 {self.reader.digest()}".encode()).hexdigest()

    def _find(self) -> tuple[Path, ...]:
        return self.reader.files
