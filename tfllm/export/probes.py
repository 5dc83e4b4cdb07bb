"""Requests that a bundle must answer as the model in memory does."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["AWKWARD_TEXTS", "Case", "batches", "warmup_requests"]

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
        answers: output name → `[batch, …]`; empty where any answer will do.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]
    answers: Mapping[str, np.ndarray]

    @property
    def size(self) -> int:
        """Numbers, or bytes of text, that it holds."""
        return sum(
            column.size + sum(len(text) for text in column.ravel() if isinstance(text, bytes))
            for column in self.inputs.values()
        )

    def to_json(self) -> dict[str, Any]:
        """Give what `json` can write, with every byte and bit kept."""
        arrays = {"inputs": self.inputs, "answers": self.answers}
        written = {
            kind: {name: _to_json(array) for name, array in named.items()}
            for kind, named in arrays.items()
        }
        return {"signature": self.signature, **written}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Case:
        """Read what `to_json` gave."""
        inputs, answers = (
            {name: _from_json(array) for name, array in value[kind].items()}
            for kind in ("inputs", "answers")
        )
        return cls(value["signature"], inputs, answers)


def _to_json(array: np.ndarray) -> dict[str, Any]:
    if array.dtype == object:
        texts = [item.decode("latin-1") for item in array.ravel()]
        return {"dtype": "object", "shape": array.shape, "texts": texts}
    raw = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": array.shape, "raw": raw}


def _from_json(value: Mapping[str, Any]) -> np.ndarray:
    if value["dtype"] == "object":
        texts = np.empty(len(value["texts"]), dtype=object)
        texts[:] = [text.encode("latin-1") for text in value["texts"]]
        return texts.reshape(value["shape"])
    raw = base64.b64decode(value["raw"])
    return np.frombuffer(raw, dtype=value["dtype"]).reshape(value["shape"])


def batches(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, list[Any]]]:
    """Cut rows into batches of 1, of 2 and of 7, so that every row is in one of each size.

    First of each size one, then the others: who has no time for all has seen every size, and what
    is left out is the same rows in other company.

    Args:
        columns: input → its rows. Shorter columns are repeated, and so is the beginning where the
            last batch needs more.

    Example:
        >>> list(batches({"texts": ["a", "b", "c"], "seed": [5]}))[1]
        {'texts': ['a', 'b'], 'seed': [5, 5]}
    """
    rows = max(len(column) for column in columns.values())
    # The largest first: it alone holds most rows.
    starts = {size: list(range(0, rows, size)) for size in reversed(_BATCH_SIZES)}
    chosen = [(size, starts[size].pop(0)) for size in starts]
    chosen += [(size, start) for size in starts for start in starts[size]]
    for size, start in chosen:
        wanted = range(start, start + size)
        yield {
            name: [column[i % rows % len(column)] for i in wanted]
            for name, column in columns.items()
        }


def warmup_requests(cases: Sequence[Case]) -> list[Case]:
    """Choose what a server warms up with: each signature's narrowest, middle and widest row."""
    rows: dict[str, list[Case]] = {}
    for case in cases:
        for i in range(len(next(iter(case.inputs.values())))):
            inputs = {name: column[i : i + 1] for name, column in case.inputs.items()}
            rows.setdefault(case.signature, []).append(Case(case.signature, inputs, {}))
    chosen = []
    for requests in rows.values():
        by_size = {request.size: request for request in requests}
        sizes = sorted(by_size)
        chosen += [by_size[i] for i in dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1]))]
    return chosen
