"""Requests that a bundle must answer as the model in memory does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["AWKWARD_TEXTS", "Case", "batches"]

# What people and programs really send, and what breaks tokenizers.
AWKWARD_TEXTS: tuple[str | bytes, ...] = (
    "",
    " \t\r\n ",
    "The quick brown fox doesn't jump over 1,234.5 lazy dogs.",
    "<script>alert('x')</script>; DROP TABLE users; -- ${HOME} %s %n \\u0000 ../../etc",
    "[CLS] [SEP] [MASK] [PAD] <|endoftext|> <unk>",
    "今天天气很好，我们去公园散步吧。",
    "🙂👩‍👩‍👧‍👦🇺🇳 e\u0301 Ǆ ﬁ \u202eright to left\u202c عربى हिन्दी",
    "a\x00b\x00",
    b"\xff\xfe caf\xe9 \xed\xa0\x80 \xf0\x9f",
    "word " * 1000,
    "x" * 3000,
)

_BATCH_SIZES = (1, 2, 7)


@dataclasses.dataclass(frozen=True)
class Case:
    """One request and what the model in memory answered.

    Attributes:
        signature: name of the signature.
        inputs: name → `[batch, …]`; strings are object arrays of bytes.
        answers: output name → `[batch, …]`.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]
    answers: Mapping[str, np.ndarray]


def batches(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, list[Any]]]:
    """Cut rows into batches of 1, of 2 and of 7, so that every row is in one of each size.

    Args:
        columns: input → its rows. Shorter columns are repeated, and so is the beginning where the
            last batch needs more.

    Example:
        >>> list(batches({"texts": ["a", "b", "c"], "seed": [5]}))[3:5]
        [{'texts': ['a', 'b'], 'seed': [5, 5]}, {'texts': ['c', 'a'], 'seed': [5, 5]}]
    """
    rows = max(len(column) for column in columns.values())
    for size in _BATCH_SIZES:
        for start in range(0, rows, size):
            wanted = range(start, start + size)
            yield {
                name: [column[i % rows % len(column)] for i in wanted]
                for name, column in columns.items()
            }
