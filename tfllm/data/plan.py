"""Which rows a step reads: a pure function of (seed, step), at the same cost for every step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

__all__ = ["BlockPlan", "permuted"]

_FEISTEL_ROUNDS = 4


def permuted(indices: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Where a random permutation of `range(size)` sends some of its numbers.

    Nothing of length `size` is made: a Feistel network shuffles the next power of four, and a
    number that leaves the range walks on until it is back.

    Args:
        indices: `<int64>[n]`, in `[0, size)`.
        size: how many numbers are permuted.
        seed: with the epoch, decides the permutation.
        epoch: another permutation for each.

    Returns:
        `<int64>[n]`; over all of `range(size)` each number comes out once.

    Reference:
        Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002.
    """
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    keys = _round_keys(seed, epoch)
    out = np.asarray(indices, np.uint64)
    astray = np.ones(out.shape, bool)
    while astray.any():
        out = np.where(astray, _feistel(out, half_bits, keys), out)
        astray &= out >= size
    return out.astype(np.int64)


def _round_keys(seed: int, epoch: int) -> np.ndarray:
    digest = hashlib.sha256(f"tfllm plan {seed} {epoch}".encode()).digest()
    return np.frombuffer(digest, np.uint64)[:_FEISTEL_ROUNDS]


def _feistel(values: np.ndarray, half_bits: int, keys: np.ndarray) -> np.ndarray:
    mask = np.uint64((1 << half_bits) - 1)
    left, right = values >> np.uint64(half_bits), values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << np.uint64(half_bits)) | right


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finisher (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class BlockPlan:
    """Cuts a token stream into blocks and deals them to steps.

    Attributes:
        tokens: length of the stream.
        sequence_length: positions of a block; its targets reach one token further.
        global_batch_size: blocks of a step.
        seed: decides the order; None for the stream's own order, every target exactly once.
    """

    tokens: int
    sequence_length: int
    global_batch_size: int
    seed: int | None

    @property
    def blocks(self) -> int:
        """Blocks of an epoch, the last of the stream perhaps cut short."""
        targets = self.tokens - 1
        if not self._shifts:
            return -(-targets // self.sequence_length)
        return targets // self.sequence_length - 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the last perhaps with fewer blocks."""
        return -(-self.blocks // self.global_batch_size)

    @property
    def _shifts(self) -> bool:
        # A shuffled epoch starts somewhere in the first block, so that blocks begin elsewhere in
        # each; it costs two blocks, too many where there are few.
        return self.seed is not None and self.tokens > 64 * self.sequence_length

    def block_starts(self, step: int) -> np.ndarray:
        """First token of each block of a step, `<int64>[blocks]`; the last step may have fewer.

        Args:
            step: counts optimizer steps from 0, through all epochs.
        """
        epoch, at = divmod(step, self.steps_per_epoch)
        first = at * self.global_batch_size
        rows = np.arange(first, min(first + self.global_batch_size, self.blocks), dtype=np.int64)
        if self.seed is None:
            return rows * self.sequence_length
        rows = permuted(rows, self.blocks, self.seed, epoch)
        return rows * self.sequence_length + self._shift(epoch)

    def _shift(self, epoch: int) -> int:
        if not self._shifts or self.seed is None:
            return 0
        return int(_round_keys(self.seed, epoch)[0] % np.uint64(self.sequence_length))
