"""Documents of a causal language model as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import texts_of
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

__all__ = ["DocumentEncoder"]


@dataclass(frozen=True)
class DocumentEncoder:
    """Each document as its start token and its ids; nothing is cut.

    The column is `input_ids`, ragged, `uint16` or `uint32`. `text_bytes` counts UTF-8 bytes.

    Attributes:
        tokenizer: with a start token.
        text: the field that holds the document.

    Raises:
        InputError: if the tokenizer has no start token.
    """

    tokenizer: FastTokenizer
    text: str = "text"

    def __post_init__(self) -> None:
        """Check the tokenizer."""
        if self.tokenizer.bos_id is None:
            raise InputError(
                "the tokenizer has no start-of-document token, and packed documents need one. "
                "Name one as bos_token in the folder's special_tokens_map.json"
            )

    @property
    def start_id(self) -> int:
        """Stands before each document."""
        assert self.tokenizer.bos_id is not None
        return self.tokenizer.bos_id

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "documents",
            "version": 1,
            "tokenizer": self.tokenizer.fingerprint,
            "start_id": self.start_id,
            "text": self.text,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode documents.

        Example:
            "the cat", "" with start 0 → values 0 5 6 0, lengths 3 1.
        """
        texts = texts_of(examples, self.text)
        encodings = self.tokenizer.fast.encode_batch_fast(texts, add_special_tokens=False)
        rows = [[self.start_id, *encoding.ids] for encoding in encodings]
        ids = Ragged.of(rows, self.tokenizer.dtype)
        text_bytes = sum(len(text.encode()) for text in texts)
        return Encoded({"input_ids": ids}, {"text_bytes": text_bytes})
