"""Cutting tokens into parts of a limited size, between words."""

from __future__ import annotations

import numpy as np

__all__ = ["word_cuts"]


def word_cuts(word_starts: np.ndarray, room: int) -> list[tuple[int, int]]:
    """Cut a text into as few parts as there can be, each of whole words.

    Args:
        word_starts: `<uint8>[tokens]`, 1 on the first token of each word.
        room: tokens of a part, at least 1. A word that is longer is cut.

    Returns:
        first token of each part and the one after its last; none of an empty text.

    Example:
        starts 1 1 0 0 1, room 3 → tokens 0, 1 to 3, and 4.
    """
    size = len(word_starts)
    if size <= room:
        return [(0, size)] if size else []
    places = np.flatnonzero(word_starts)
    bounds = [0]
    while size - bounds[-1] > room:
        most = bounds[-1] + room
        before = np.searchsorted(places, most, side="right")
        cut = int(places[before - 1]) if before else 0
        bounds.append(cut if cut > bounds[-1] else most)
    bounds.append(size)
    return list(zip(bounds, bounds[1:], strict=False))
