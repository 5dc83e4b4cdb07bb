"""What a bundle's signature takes and gives, as its MetaGraphDef declares it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ["Signature", "TensorSpec"]


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        tensor: name in the graph, `"serving_default_texts:0"`.
        dtype: `"string"`, `"float32"`, `"int64"` …, as TensorFlow spells it.
        shape: sizes, None where unknown; None altogether where the rank is unknown.
    """

    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        """Write it as the docstrings do: `<float32>[?, 3]`."""
        if self.shape is None:
            return f"<{self.dtype}>[…]"
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"<{self.dtype}>[{sizes}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """Named inputs → named outputs, both in alphabetical order."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
