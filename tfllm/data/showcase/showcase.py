"""The data sets that tfllm brings, as readers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from tfllm.data.readers.reader import Example, Located, Reader
from tfllm.data.showcase.answers import answers
from tfllm.data.showcase.entities import entities
from tfllm.data.showcase.rewriting import rewriting
from tfllm.data.showcase.search import search
from tfllm.data.showcase.sentiment import sentiment
from tfllm.errors import InputError

__all__ = ["Showcase", "ShowcaseName"]

ShowcaseName = Literal["sentiment", "entities", "answers", "rewriting", "search"]
_SETS: dict[str, Callable[[], Iterator[Example]]] = {
    "sentiment": sentiment,
    "entities": entities,
    "answers": answers,
    "rewriting": rewriting,
    "search": search,
}


@dataclass(frozen=True)
class Showcase(Reader):
    """Examples of a grammar, the same ones in every process; a small BERT learns them in a minute.

    `sentiment`: `{"text", "label"}`, labels `negative` and `positive`. `entities`: `{"tokens",
    "tags"}`, persons, places and organisations in IOB2. `answers`: what `Squad` gives, three
    questions to each context. `rewriting`: `{"source", "target"}`, notes in two styles. `search`:
    `{"query", "document", "negatives"}`, no negatives.

    Attributes:
        data_set: which one.
    """

    data_set: ShowcaseName

    def __post_init__(self) -> None:
        """Check the name."""
        if self.data_set not in _SETS:
            raise InputError(
                f"data_set must be one of {', '.join(_SETS)}. Received: {self.data_set!r}"
            )
        super().__post_init__()

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.data_set

    def located(self) -> Iterator[Located]:
        """Yield the examples with their numbers."""
        for number, example in enumerate(self._examples, 1):
            yield f"showcase-{self.data_set}", number, dict(example)

    def digest(self) -> str:
        """Identify the examples."""
        return hashlib.sha256(json.dumps(self._examples, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _examples(self) -> list[Example]:
        return list(_SETS[self.data_set]())

    def _find(self) -> tuple[Path, ...]:
        return ()
