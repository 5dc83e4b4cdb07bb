"""Random permutations of ranges, at any place of them, without making them."""

from __future__ import annotations

import numpy as np

from tfllm.data.random_bits import mix, random_keys

__all__ = ["permuted", "random_number"]

_FEISTEL_ROUNDS = 4


def permuted(
    indices: np.ndarray,
    size: int | np.ndarray,
    seed: int,
    epoch: int,
    stream: int | np.ndarray = 0,
) -> np.ndarray:
    """Where a random permutation of `range(size)` sends some of its numbers.

    Nothing of length `size` is made: a Feistel network shuffles the next power of four, and a
    number that leaves the range walks on until it is back.

    Args:
        indices: `<int64>[n]`, in `[0, size)`.
        size: how many numbers are permuted; or `<int64>[n]`, for each index its own.
        seed: with the epoch and the stream, decides the permutation.
        epoch: another permutation for each.
        stream: another permutation for each; or `<int64>[n]`, for each index its own.

    Returns:
        `<int64>[n]`; over all of `range(size)` each number comes out once.

    Reference:
        Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002.
    """
    out = np.array(indices, np.uint64)
    sizes = np.broadcast_to(np.asarray(size, np.uint64), out.shape)
    # The bits of the largest number, at least one, halved and rounded up.
    bits = np.frexp(np.maximum(sizes, np.uint64(2)) - np.uint64(1))[1]
    half_bits = ((bits + 1) // 2).astype(np.uint64)
    streams = mix(np.broadcast_to(np.asarray(stream, np.uint64), out.shape))
    keys = [key ^ streams for key in _round_keys(seed, epoch)]
    astray = np.arange(len(out))
    while len(astray):
        out[astray] = _feistel(out[astray], half_bits[astray], [key[astray] for key in keys])
        astray = astray[out[astray] >= sizes[astray]]
    return out.astype(np.int64)


def random_number(below: int, seed: int, epoch: int) -> int:
    """A number in `[0, below)` that follows from the seed and the epoch."""
    return int(_round_keys(seed, epoch)[0] % np.uint64(below))


def _round_keys(seed: int, epoch: int) -> np.ndarray:
    return random_keys(f"tfllm plan {seed} {epoch}")[:_FEISTEL_ROUNDS]


def _feistel(values: np.ndarray, half_bits: np.ndarray, keys: list[np.ndarray]) -> np.ndarray:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) & mask)
    return (left << half_bits) | right
