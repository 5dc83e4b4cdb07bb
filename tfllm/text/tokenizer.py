"""What the rest of tfllm asks of a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tensorflow as tf
    import tokenizers

__all__ = ["Tokenizer"]


class Tokenizer(Protocol):
    """One tokenizer in two views: in graph for serving, Hugging Face's fast one for bulk work.

    Both give the same ids for every text. An implementation is a `tf.Module`, so that its tables
    are saved with a model that holds it.
    """

    @property
    def vocabulary_size(self) -> int:
        """Number of ids; every id is in `[0, vocabulary_size)`."""
        ...

    @property
    def bos_id(self) -> int | None:
        """Id that starts a document, or None."""
        ...

    @property
    def eos_id(self) -> int | None:
        """Id that ends a document, or None."""
        ...

    @property
    def pad_id(self) -> int | None:
        """Id that fills rows, or None where the vocabulary has none."""
        ...

    @property
    def special_tokens(self) -> dict[str, int]:
        """Text of each special token → id."""
        ...

    @property
    def fast(self) -> tokenizers.Tokenizer:
        """Hugging Face's view of the same tokenizer."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of everything that decides ids; equal means interchangeable."""
        ...

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turn `<string>[batch]` of UTF-8 into `<int32>[batch, (tokens)]`."""
        ...

    def tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Like `tokenize`, with each token's first byte and the byte after its last.

        Returns:
            ids, starts, ends: `<int32>[batch, (tokens)]` each; bytes count from the row's start.
        """
        ...

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Turn `<int32>[batch, (tokens)]` into `<string>[batch]` of valid UTF-8."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the files from which `tfllm.text.load` and transformers read it back."""
        ...
