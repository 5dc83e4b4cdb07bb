"""Queries, and which documents answer them: by name, and by row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = ["Judged", "JudgedPairs"]


@dataclass(frozen=True)
class Judged:
    """Queries with what is known of documents, by their ids.

    Attributes:
        queries: query's id → text.
        scores: query's id → document's id → how relevant it is, 0 for not at all.
        negatives: query's id → ids of documents that somebody chose as hard negatives; queries
            may be missing.
    """

    queries: dict[str, str] = field(default_factory=dict)
    scores: dict[str, dict[str, int]] = field(default_factory=dict)
    negatives: dict[str, list[str]] = field(default_factory=dict)

    def add(self, query_id: str, query: str, document_id: str, score: int) -> None:
        """Add a judgement."""
        self.queries[query_id] = query
        self.scores.setdefault(query_id, {})[document_id] = score

    def some(self, query_ids: Sequence[str]) -> Judged:
        """Give some of the queries."""
        return Judged(
            {name: self.queries[name] for name in query_ids},
            {name: self.scores[name] for name in query_ids},
            {name: self.negatives[name] for name in query_ids if name in self.negatives},
        )

    def examples(self) -> list[dict[str, str]]:
        """The queries as examples `{"id", "text"}`."""
        return [{"id": name, "text": text} for name, text in self.queries.items()]

    def pairs(self, place_of: Mapping[str, int]) -> JudgedPairs:
        """Number what is judged.

        Args:
            place_of: document's id → its row in the corpus, for all that are judged.
        """
        relevant = [
            [place_of[document] for document, score in self.scores[name].items() if score > 0]
            for name in self.queries
        ]
        chosen = [
            [place_of[document] for document in self.negatives.get(name, ())]
            for name in self.queries
        ]
        negatives = [
            [place for place in places if place not in known]
            for places, known in zip(chosen, relevant, strict=True)
        ]
        return JudgedPairs(
            np.repeat(np.arange(len(relevant)), [len(places) for places in relevant]),
            np.array([place for places in relevant for place in places], np.int64),
            _padded(relevant),
            _padded(negatives),
        )


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs of a query and a document that answers it, by their rows.

    Attributes:
        queries: `<int64>[pairs]`, rows of the queries, rising.
        documents: `<int64>[pairs]`, rows of the corpus.
        relevant: `<int64>[queries, most]`, all documents that answer a query, filled up with −1.
        negatives: `<int64>[queries, most]`, hard negatives of a query, filled up with −1; none of
            them answers it.
    """

    queries: np.ndarray
    documents: np.ndarray
    relevant: np.ndarray
    negatives: np.ndarray

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.queries)

    def known(self) -> list[np.ndarray]:
        """The documents that answer each query, without filling."""
        return [places[places >= 0] for places in self.relevant]

    def with_negatives(self, mined: np.ndarray) -> JudgedPairs:
        """Give mined negatives to the queries that have none.

        Args:
            mined: `<int64>[queries, most]`, filled up with −1.
        """
        width = max(self.negatives.shape[1], mined.shape[1])
        own, others = (
            np.pad(places, [(0, 0), (0, width - places.shape[1])], constant_values=-1)
            for places in (self.negatives, mined)
        )
        has_own = (own >= 0).any(axis=1, keepdims=True) if width else np.zeros([len(own), 1], bool)
        return replace(self, negatives=np.where(has_own, own, others))

    def digest(self) -> str:
        """Identify them: SHA-256, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.queries, self.documents, self.relevant, self.negatives):
            digest.update(f"{array.shape}".encode() + array.astype("<i8").tobytes())
        return digest.hexdigest()


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    width = max((len(row) for row in rows), default=0)
    padded = np.full((len(rows), width), -1, np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded
