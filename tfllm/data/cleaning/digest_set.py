"""A set of digests that takes little memory."""

from __future__ import annotations

from array import array

__all__ = ["DigestSet"]

_SMALLEST = 1 << 10


class DigestSet:
    """A set of 16-byte digests: a hash table in one flat array.

    It is at most three quarters full, so a digest takes 21 to 43 bytes, and half as much again
    for the moment in which it grows. `bytes` in a `set` take 80 and more.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._size = 0
        self._mask = _SMALLEST - 1
        self._slots = array("Q", [0]) * (2 * _SMALLEST)

    def __len__(self) -> int:
        """Count the digests."""
        return self._size

    def add(self, digest: bytes) -> bool:
        """Add a digest.

        Args:
            digest: 16 bytes of a good hash; its own bytes say where it goes.

        Returns:
            whether it is new.
        """
        high = int.from_bytes(digest[:8], "little")
        # No digest may look like an empty slot; this costs one bit of 128.
        low = int.from_bytes(digest[8:16], "little") | 1
        if not self._put(high, low):
            return False
        self._size += 1
        if 4 * self._size > 3 * (self._mask + 1):
            self._grow()
        return True

    def _put(self, high: int, low: int) -> bool:
        slots, mask = self._slots, self._mask
        place = high & mask
        while slots[2 * place + 1]:
            if slots[2 * place + 1] == low and slots[2 * place] == high:
                return False
            place = (place + 1) & mask
        slots[2 * place], slots[2 * place + 1] = high, low
        return True

    def _grow(self) -> None:
        old = self._slots
        self._mask = 2 * self._mask + 1
        self._slots = array("Q", [0]) * (2 * (self._mask + 1))
        for i in range(0, len(old), 2):
            if old[i + 1]:
                self._put(old[i], old[i + 1])
