"""Random numbers that follow from where they are asked for, and from nothing drawn before."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["mix", "random_bits", "random_keys", "uniform"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def random_bits(
    name: str, seed: int, epoch: int, rows: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Draw 64 bits for each place of a row: a counter-based generator.

    Each row is a stream of SplitMix64 that starts where a hash of the row says, and a place is a
    step of it. So a number is the same whoever asks for it, in whatever order, among whatever
    others.

    Args:
        name: what the bits decide; others for each.
        seed: others for each.
        epoch: others for each.
        rows: `<int64>[n]`.
        places: `<int64>[n]`, in the row.

    Returns:
        `<uint64>[n]`.

    Reference:
        Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    keys = random_keys(f"tfllm {name} {seed} {epoch}")
    stream = mix(keys[:1] + np.asarray(rows).astype(np.uint64) * _GOLDEN) ^ keys[1:2]
    return mix(stream + np.asarray(places).astype(np.uint64) * _GOLDEN)


def uniform(bits: np.ndarray) -> np.ndarray:
    """Turn bits into numbers in [0, 1), `<float64>`."""
    return (bits >> np.uint64(11)) * 2.0**-53


def random_keys(text: str) -> np.ndarray:
    """Four keys that follow from a text, `<uint64>[4]`."""
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint64)


def mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finisher (Steele, Lea and Flood, 2014); 0 stays 0."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
