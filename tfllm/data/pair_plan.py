"""Pairs of texts that follow each other, or don't."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from tfllm.data.bucket_plan import BucketPlan
from tfllm.data.epochs import place_in_epoch
from tfllm.data.random_bits import random_bits, uniform

__all__ = ["PAIR_OBJECTIVES", "PairObjective", "PairPlan", "Pairs"]

PairObjective = Literal["next_sentence", "sentence_order"]
PAIR_OBJECTIVES = get_args(PairObjective)


class Pairs(NamedTuple):
    """Two texts a row.

    Attributes:
        starts: `<int64>[rows, 2]`, first token of each in the store.
        lengths: `<int64>[rows, 2]`, tokens of each; the second has none where there is no pair.
        labels: `<int64>[rows]`, 0: the second follows the first; 1: it is another document's, or
            stood before it.
    """

    starts: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    @property
    def are_pairs(self) -> np.ndarray:
        """Which rows hold two texts, `<bool>[rows]`."""
        return self.lengths[:, 1] > 0


class PairPlan(BucketPlan):
    """Makes a pair of each chunk of sentences, another one in each epoch, and deals them to steps.

    A chunk is parted at random behind one of its sentences, so that the first text fills at most
    half the room. For `next_sentence`, in half of the rows the second text begins where another
    document's chunk is parted, and takes as many sentences from there as fit, like one that does
    follow. For `sentence_order`, in half of the rows the two change places. A chunk of one
    sentence, as the last of a document may be, is a row without a second text.

    Everything about a row is a pure function of the seed, the epoch and the row.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        document_starts: np.ndarray,
        chunk_starts: np.ndarray,
        *,
        room: int,
        objective: PairObjective,
        global_batch_size: int,
        seed: int | None,
    ) -> None:
        """Find the chunks.

        Args:
            offsets: `<int64>[sentences + 1]`, where each sentence starts in the store.
            document_starts: `<uint8>[sentences]`, 1 on the first of each document.
            chunk_starts: `<uint8>[sentences]`, 1 on the first of each chunk.
            room: tokens of a pair.
            objective: what is asked about a pair.
            global_batch_size: rows of a step.
            seed: decides the order and the pairs; None: shortest first, and always the same pairs.
        """
        self._offsets = offsets
        self._room = room
        self._objective = objective
        sentences = len(offsets) - 1
        document = np.cumsum(document_starts, dtype=np.int64) - 1
        self._chunks = np.append(np.flatnonzero(chunk_starts), sentences)
        self._documents = np.append(np.flatnonzero(document_starts), sentences)
        self._document = document[self._chunks[:-1]]
        self._pairs = np.flatnonzero(np.diff(self._chunks) > 1)
        self._owners = self._document[self._pairs]
        super().__init__(np.diff(offsets[self._chunks]), global_batch_size, seed)

    @property
    def num_pairs(self) -> int:
        """Rows with two texts."""
        return len(self._pairs)

    @property
    def num_documents_of_pairs(self) -> int:
        """Documents that have such rows."""
        return len(np.unique(self._owners))

    def epoch(self, step: int) -> int:
        """Which epoch's draws a step reads: without a seed always the first one's."""
        return 0 if self.seed is None else place_in_epoch(step, self.steps_per_epoch)[0]

    def pairs(self, rows: np.ndarray, epoch: int) -> Pairs:
        """Texts of some rows.

        Args:
            rows: `<int64>[n]`, chunks.
            epoch: other pairs for each.
        """
        first, parted = self._chunks[rows], self._parted(rows, epoch)
        is_pair = parted < self._chunks[rows + 1]
        labels = is_pair & (uniform(self._bits("label", rows, epoch)) < 0.5)
        second = parted
        if self._objective == "next_sentence":
            second = np.where(labels, self._parted(self._donors(rows, epoch), epoch), parted)
        first_length = self._offsets[parted] - self._offsets[first]
        second_length = np.where(is_pair, self._filled(second, self._room - first_length), 0)
        starts = np.stack([self._offsets[first], self._offsets[second]], axis=1)
        lengths = np.stack([first_length, second_length], axis=1)
        if self._objective == "sentence_order":
            starts[labels], lengths[labels] = starts[labels, ::-1], lengths[labels, ::-1]
        return Pairs(starts, lengths, labels.astype(np.int64))

    def _parted(self, chunks: np.ndarray, epoch: int) -> np.ndarray:
        """The sentence with which the second text of each chunk begins, `<int64>[n]`."""
        first, end = self._chunks[chunks], self._chunks[chunks + 1]
        most = self._offsets[first] + self._room // 2
        last = np.searchsorted(self._offsets, most, side="right") - 1
        ways = np.clip(last - first, 1, np.maximum(end - first - 1, 1))
        drawn = uniform(self._bits("part", chunks, epoch)) * ways
        return first + 1 + drawn.astype(np.int64)

    def _donors(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """A chunk with a pair for each row, of another document."""
        document = self._document[rows]
        own = np.searchsorted(self._owners, document, side="left")
        end = np.searchsorted(self._owners, document, side="right")
        others = len(self._pairs) - (end - own)
        drawn = uniform(self._bits("donor", rows, epoch)) * others
        place = drawn.astype(np.int64)
        return self._pairs[np.where(place < own, place, place + end - own)]

    def _filled(self, sentences: np.ndarray, room: np.ndarray) -> np.ndarray:
        """Tokens of as many sentences as fit in, of one document, from some sentences on."""
        start = self._offsets[np.minimum(sentences, len(self._offsets) - 2)]
        document = np.searchsorted(self._documents, sentences, side="right")
        last = self._documents[np.minimum(document, len(self._documents) - 1)]
        end = np.searchsorted(self._offsets, start + room, side="right") - 1
        return self._offsets[np.minimum(end, last)] - start

    def _bits(self, name: str, rows: np.ndarray, epoch: int) -> np.ndarray:
        return random_bits(name, self.seed or 0, epoch, rows, np.zeros_like(rows))
