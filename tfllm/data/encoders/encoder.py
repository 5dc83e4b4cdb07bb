"""What a store asks of an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfllm.data.encoders.ragged import Ragged

__all__ = ["Encoded", "Encoder"]


class Encoded(NamedTuple):
    """Some examples as arrays.

    Attributes:
        columns: name → `[rows]`, `[rows, width]`, or `Ragged` where rows hold different numbers
            of values. All have as many rows. Names, types, dtypes and widths are the same for
            every batch of examples, an empty one included.
        counts: name → how often something happened, for example `rows_truncated`. A store adds
            them up.
    """

    columns: dict[str, np.ndarray | Ragged]
    counts: dict[str, int]


class Encoder(Protocol):
    """Turns examples into columns of arrays, the same ones however the examples are batched.

    An implementation is a frozen dataclass of small fields: it travels to other processes, so it
    stands in a module, not in a script. It imports no TensorFlow. One example may become one row,
    several, or none.
    """

    def identity(self) -> dict[str, Any]:
        """Everything that decides the arrays, as JSON knows it; a store of others is not reused.

        `tokenizer` is the fingerprint of the tokenizer, where there is one.
        """
        ...

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode examples.

        Raises:
            InputError: if an example lacks a field, or holds what can't be encoded.
        """
        ...
