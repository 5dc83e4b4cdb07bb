"""Documents of a causal language model on disk, as one stream of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.data.array_building import build_array_store
from tfllm.data.array_store import ArrayStore
from tfllm.data.encoders.document_encoder import DocumentEncoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.stores import default_cache_dir
from tfllm.data.text_examples import text_examples
from tfllm.errors import InputError

__all__ = ["Manifest", "TokenStore", "build_store", "check_length", "default_cache_dir"]

_COLUMN = "input_ids"


@dataclass(frozen=True)
class Manifest:
    """What a stream of tokens holds.

    Attributes:
        source: digest of the documents, in order.
        tokenizer: the tokenizer's fingerprint.
        start_id: its start token, which stands before each document.
        documents: how many.
        text_bytes: their UTF-8 bytes together.
        tokens: ids of the stream, start tokens and the end token included.
    """

    source: str
    tokenizer: str
    start_id: int
    documents: int
    text_bytes: int
    tokens: int


class TokenStore:
    """A read-only view of a store that `build_store` made.

    Attributes:
        arrays: the store itself.
        manifest: what it holds.
        tokens: `<uint16 or uint32>[manifest.tokens - 1]`, memory-mapped. Each document is its
            start token and its ids. One more start token, which isn't stored, ends the stream, so
            that the last token of every document is followed by the token that ends it.
        offsets: `<int64>[documents + 1]`, memory-mapped: where each document starts.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a whole store.

        Raises:
            ValueError: if the folder holds no store, or one that was cut off.
        """
        self.arrays = ArrayStore(folder)
        held = self.arrays.manifest
        if held.encoder.get("encoder") != "documents":
            raise ValueError(f"{folder} holds no documents. Received: {held.encoder}")
        self.tokens = self.arrays.values(_COLUMN)
        self.offsets = self.arrays.offsets(_COLUMN)
        self.manifest = Manifest(
            source=held.source,
            tokenizer=held.encoder["tokenizer"],
            start_id=held.encoder["start_id"],
            documents=held.rows,
            text_bytes=held.counts["text_bytes"],
            tokens=len(self.tokens) + 1,
        )

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.arrays.folder


def build_store(
    documents: Iterable[str],
    tokenizer: Any,
    *,
    cache_dir: str | Path | None = None,
    processes: int | None = None,
) -> TokenStore:
    """Tokenize documents into a store, or open the one that was made of the same text before.

    Args:
        documents: read once to be recognised, and once more to be tokenized if they are new: an
            iterable that can be read again, not a generator. A method `digest()` spares the
            first time.
        tokenizer: a `tfllm.text.Tokenizer` with a start token.
        cache_dir: stores lie below it, each under a digest of its text and tokenizer; None for
            `default_cache_dir()`.
        processes: how many tokenize beside this one; None for one a core, none for little text.

    Returns:
        the store, opened.

    Raises:
        InputError: if the tokenizer has no start token, or the folder can't be written.
    """
    encoder = DocumentEncoder(FastTokenizer.of(tokenizer))
    examples = text_examples(documents)
    built = build_array_store(examples, encoder, cache_dir=cache_dir, processes=processes)
    return TokenStore(built.folder)


def check_length(documents: Iterable[str], tokenizer: Any, least_tokens: int, part: str) -> None:
    """See that documents make a stream of at least so many tokens; reads no further than that.

    Args:
        documents: as for `build_store`.
        tokenizer: a `tfllm.text.Tokenizer`.
        least_tokens: start tokens included.
        part: what the documents are, for the message.

    Raises:
        InputError: if they are fewer.
    """
    tokens = 1
    for document in documents:
        # No token is shorter than a byte, so a part of a long document will do.
        some = document[: 16 * least_tokens]
        tokens += 1 + len(tokenizer.fast.encode(some, add_special_tokens=False).ids)
        if tokens >= least_tokens:
            return
    raise InputError(
        f"{part} is shorter than one block: {tokens} tokens, and a block takes {least_tokens}. "
        "Give more text or a smaller --sequence_length"
    )
