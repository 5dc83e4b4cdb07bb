"""Fitting pieces of text into rows, best-fit decreasing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["RowKind", "pack"]


class RowKind(NamedTuple):
    """Rows that hold pieces of the same lengths.

    Attributes:
        pieces: pairs of a length and how many pieces of it each row holds.
        rows: how many such rows.
    """

    pieces: tuple[tuple[int, int], ...]
    rows: int


def pack(counts: np.ndarray, capacity: int) -> list[RowKind]:
    """Fit pieces into as few rows as best-fit decreasing does.

    The longest pieces come first, and each goes into the fullest row that it still fits in. Since
    pieces of one length can't be told apart, all of them are placed at once, into all rows with
    the same room: the work grows with the number of lengths and not with that of the pieces.

    Args:
        counts: `<int64>[capacity + 1]`, pieces of each length; none of length 0.
        capacity: of a row.

    Returns:
        the kinds of rows; together they hold every piece once.

    Example:
        lengths 5 5 3 2 in rows of 8 → one row 5 3, one row 5 2.

    Reference:
        Johnson, Near-Optimal Bin Packing Algorithms, 1973 (the rule); Ding et al., Fewer
        Truncations Improve Language Modeling, 2024, arXiv 2404.10830 (for documents).
    """
    rooms = _Rooms(capacity)
    for length in range(capacity, 0, -1):
        left = int(counts[length])
        while left:
            left = rooms.place(length, left)
    return rooms.kinds()


class _Rooms:
    """Rows by the room that is left in them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kinds: list[list[RowKind]] = [[] for _ in range(capacity + 1)]
        self._occupied = 0  # bit r: there are rows with room r

    def place(self, length: int, count: int) -> int:
        """Fill the fullest rows that fit, or new ones, with pieces; give how many are left."""
        room, kind = self._take(length, count)
        each = room // length
        full = min(kind.rows, count // each)
        self._put(kind, length, each, full)
        count -= full * each
        rows = kind.rows - full
        if rows and count:  # fewer than fill a row
            self._put(kind, length, count, 1)
            count, rows = 0, rows - 1
        if rows and kind.pieces:
            self._add(RowKind(kind.pieces, rows), room)
        return count

    def kinds(self) -> list[RowKind]:
        return [kind for kinds in self._kinds for kind in kinds]

    def _take(self, length: int, count: int) -> tuple[int, RowKind]:
        fitting = self._occupied >> length
        if not fitting:
            return self._capacity, RowKind((), count)
        room = length + (fitting & -fitting).bit_length() - 1
        kind = self._kinds[room].pop()
        if not self._kinds[room]:
            self._occupied ^= 1 << room
        return room, kind

    def _put(self, kind: RowKind, length: int, each: int, rows: int) -> None:
        if rows:
            filled = sum(n * k for n, k in kind.pieces) + length * each
            kind = RowKind((*kind.pieces, (length, each)), rows)
            self._add(kind, self._capacity - filled)

    def _add(self, kind: RowKind, room: int) -> None:
        self._kinds[room].append(kind)
        self._occupied |= 1 << room
