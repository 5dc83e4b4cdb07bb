"""Retrieval data in BEIR's layout: documents, queries, and which belong together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Field
from tfllm.data.readers.json_lines import JsonLines
from tfllm.data.readers.reader import Example, Located, Reader
from tfllm.data.readers.tsv_files import Tsv
from tfllm.errors import InputError

__all__ = ["Beir"]

# `trec_eval`, which measures searches, counts up to the highest: memory and time go with it.
_HIGHEST_SCORE = 1_000_000


@dataclass(frozen=True)
class Beir(Reader):
    """Judged pairs of a query and a document, one example each.

    `{"query_id", "query", "document_id", "title", "document": str, "score": int}`, in the order of
    the judgements. The folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl`
    (`_id`, `text`) and `qrels/<split>.tsv` (`query-id`, `corpus-id`, `score`), each packed with
    gzip or not. A judgement whose query or document is missing, or that says otherwise than an
    earlier one of the same two, is a bad row; so is a blank query, and an id that was there before.

    In memory are the split's judgements, all queries and the documents that are judged;
    `documents` and `queries` alone stream.

    Attributes:
        folder: the data set's.
        split: which judgements, `train` or `test` for most.
    """

    folder: str | Path
    split: str = "test"

    _places: ClassVar[frozenset[str]] = frozenset({"folder"})

    @property
    def documents(self) -> JsonLines:
        """All documents: `{"id", "title", "text"}`."""
        fields = {
            "id": Field("_id"),
            "title": Field("title", default=""),
            "text": Field("text"),
        }
        return JsonLines(self.files[0], fields, on_error=self.on_error)

    @property
    def queries(self) -> JsonLines:
        """All queries, of every split: `{"id", "text"}`."""
        fields = {"id": Field("_id"), "text": Field("text", blank=False)}
        return JsonLines(self.files[1], fields, on_error=self.on_error)

    @property
    def judgements(self) -> Tsv:
        """Which documents answer a query: `{"query_id", "document_id", "score"}`."""
        fields = {
            "query_id": Field("query-id"),
            "document_id": Field("corpus-id"),
            "score": Field("score", "integer"),
        }
        return Tsv(self.files[2], fields, quoting=False, on_error=self.on_error)

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.folder).resolve().name

    def located(self) -> Iterator[Located]:
        """Yield judged pairs, and rows of the three files that can't be read."""
        judged: list[tuple[int | None, Example]] = []
        scores: dict[tuple[str, str], tuple[int, int | None]] = {}
        for path, line, row in self.judgements.located():
            if isinstance(row, BadRow):
                yield path, line, row
                continue
            score = row["score"]
            if score > _HIGHEST_SCORE:
                reason = f"has the score {score:,}, and the highest that can be is 1,000,000"
                yield path, line, BadRow(path, line, reason)
                continue
            before, place = scores.setdefault((row["query_id"], row["document_id"]), (score, line))
            if score == before:
                judged.append((line, row))
            else:
                reason = f"has the score {score}, and line {place} gives the same two {before}"
                yield path, line, BadRow(path, line, reason)
        queries: dict[str, Example] = {}
        yield from _collect(self.queries, {row["query_id"] for _, row in judged}, queries)
        documents: dict[str, Example] = {}
        yield from _collect(self.documents, {row["document_id"] for _, row in judged}, documents)
        path = self.files[2]
        for line, row in judged:
            query, document = queries.get(row["query_id"]), documents.get(row["document_id"])
            if query is None:
                reason = f"names the query {row['query_id']!r}: none"
                yield path, line, BadRow(path, line, reason)
            elif document is None:
                reason = f"names the document {row['document_id']!r}: none"
                yield path, line, BadRow(path, line, reason)
            else:
                yield (
                    path,
                    line,
                    {
                        "query_id": row["query_id"],
                        "query": query["text"],
                        "document_id": row["document_id"],
                        "title": document["title"],
                        "document": document["text"],
                        "score": row["score"],
                    },
                )

    def _find(self) -> list[Path]:
        names = ["corpus.jsonl", "queries.jsonl", f"qrels/{self.split}.tsv"]
        return [self._part(name) for name in names]

    def _part(self, name: str) -> Path:
        path = Path(self.folder) / name
        packed = path.with_name(path.name + ".gz")
        for file in (path, packed):
            if os.path.isfile(file):  # a name that no file can have is none, too
                return file
        there = sorted(found.name.split(".")[0] for found in path.parent.glob("*.tsv*"))
        splits = f" (there are: {', '.join(there)})" if there else ""
        raise InputError(
            f"{self.folder} has no {name}{splits}. Give a folder in BEIR's layout: corpus.jsonl, "
            "queries.jsonl, qrels/<split>.tsv"
        )


def _collect(reader: JsonLines, wanted: set[str], found: dict[str, Example]) -> Iterator[Located]:
    """Put the rows with wanted ids into `found`; yield those that can't be read or come twice."""
    for path, line, row in reader.located():
        if isinstance(row, BadRow):
            yield path, line, row
        elif row["id"] in found:
            yield path, line, BadRow(path, line, f"has the id {row['id']!r} of an earlier row")
        elif row["id"] in wanted:
            found[row["id"]] = row
