"""Documents packed into rows, several to a row, none of them seeing another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfllm.data.epochs import check_batch_size, place_in_epoch
from tfllm.data.length_order import LengthOrder
from tfllm.data.packing import RowKind, pack
from tfllm.data.permutation import permuted
from tfllm.data.ranges import expand
from tfllm.data.worker_share import worker_share
from tfllm.errors import InputError

__all__ = ["PackedPlan", "StepPieces"]

_DOCUMENTS_AT_ONCE = 1 << 20


class StepPieces(NamedTuple):
    """Pieces of documents that a step reads, row after row: `[pieces]` each.

    Attributes:
        rows: `<int64>`, row of the batch, rising.
        starts: `<int64>`, first token in the stream.
        lengths: `<int64>`, tokens.
        ends: `<bool>`, whether the document ends with the piece.
        size: rows of the batch, missing ones included.
    """

    rows: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray
    size: int


class PackedPlan:
    """Packs documents into rows and deals the rows to steps, each once in an epoch.

    A document that is longer than a row is cut into pieces as long as a row and a rest. Which
    lengths share a row is fixed (`pack`); which piece of a length goes into which row, and the
    order of the rows, is random and differs between epochs.

    Building it costs a sort of the pieces; it keeps 13 bytes a piece.

    Attributes:
        sequence_length: positions of a row.
        global_batch_size: rows of a step.
        seed: decides the order; None for a fixed one.
        tokens: in all rows.
        num_rows: of an epoch.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None,
    ) -> None:
        """Cut and pack.

        Args:
            offsets: `<int64>[documents + 1]`, where each document starts in the stream.
            sequence_length: positions of a row, at most 65,535.
            global_batch_size: rows of a step.
            seed: decides the order; None for a fixed one.
        """
        if not 1 <= sequence_length < 1 << 16:
            raise InputError(
                f"sequence_length must be at least 1 and below 65536. Received: {sequence_length}"
            )
        check_batch_size(global_batch_size)
        self.sequence_length = sequence_length
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.tokens = int(offsets[-1] - offsets[0])
        self._starts, lengths, self._ends = _cut(offsets, sequence_length)
        self._order = LengthOrder(lengths, sequence_length + 1)
        kinds = pack(np.diff(self._order.bounds), sequence_length)
        self._row_bounds = np.cumsum([0] + [kind.rows for kind in kinds], dtype=np.int64)
        self._slots = _slots(kinds)
        self.num_rows = int(self._row_bounds[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the last perhaps with fewer rows."""
        return -(-self.num_rows // self.global_batch_size)

    @property
    def real_share(self) -> float:
        """Share of the positions of all rows that hold tokens."""
        return self.tokens / max(1, self.num_rows * self.sequence_length)

    def pieces(self, step: int, worker: int = 0, workers: int = 1) -> StepPieces:
        """Pieces of a step's rows, or of one worker's share of them.

        Args:
            step: counts optimizer steps from 0, through all epochs.
            worker: counts from 0.
            workers: how many share the step's rows; their shares are disjoint.
        """
        epoch, at = place_in_epoch(step, self.steps_per_epoch)
        share = worker_share(self.global_batch_size, worker, workers)
        first = at * self.global_batch_size
        end = min(first + share.stop, self.num_rows)
        rows = np.arange(first + share.start, end, dtype=np.int64)
        if self.seed is not None:
            rows = permuted(rows, self.num_rows, self.seed, epoch)
        kinds = np.searchsorted(self._row_bounds, rows, side="right") - 1
        row, slot = expand(self._slots.bounds[kinds], self._slots.bounds[kinds + 1])
        lengths = self._slots.lengths[slot]
        ranks = self._slots.ranks[slot] + (rows - self._row_bounds[kinds])[row]
        piece = self._order.rows(self._order.bounds[lengths] + ranks, self.seed, epoch)
        size = share.stop - share.start
        return StepPieces(row, self._starts[piece], lengths, self._ends[piece], size)


class _Slots(NamedTuple):
    """Places for pieces in the rows of each kind.

    The rows of a kind fill one slot with pieces of successive ranks among those of its length.
    """

    bounds: np.ndarray
    """`<int64>[kinds + 1]`: kind k has slots `bounds[k]` to `bounds[k + 1] - 1`."""
    lengths: np.ndarray
    """`<int64>[slots]`."""
    ranks: np.ndarray
    """`<int64>[slots]`: rank of the piece in the kind's first row."""


def _slots(kinds: list[RowKind]) -> _Slots:
    bounds = [0]
    lengths: list[int] = []
    ranks: list[int] = []
    given: dict[int, int] = {}
    for kind in kinds:
        for length, each in kind.pieces:
            rank = given.get(length, 0)
            lengths += [length] * each
            ranks += range(rank, rank + each * kind.rows, kind.rows)
            given[length] = rank + each * kind.rows
        bounds.append(len(lengths))
    return _Slots(
        np.array(bounds, np.int64), np.array(lengths, np.int64), np.array(ranks, np.int64)
    )


def _cut(offsets: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents into pieces.

    Returns:
        starts `<int64>[pieces]`, lengths `<uint16>[pieces]` and ends `<bool>[pieces]`.
    """
    # Some documents at a time: the numbers on the way take more than what is kept.
    some = range(0, max(1, len(offsets) - 1), _DOCUMENTS_AT_ONCE)
    parts = [_cut_some(offsets[first : first + _DOCUMENTS_AT_ONCE + 1], most) for first in some]
    starts, lengths, ends = (np.concatenate(part) for part in zip(*parts, strict=True))
    return starts, lengths, ends


def _cut_some(offsets: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.diff(offsets)
    document, number = expand(np.zeros_like(sizes), -(-sizes // most))
    rest = sizes[document] - number * most
    lengths = np.minimum(rest, most).astype(np.uint16)
    return offsets[:-1][document] + number * most, lengths, rest <= most
