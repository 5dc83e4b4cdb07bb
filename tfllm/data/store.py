"""Tokenized text on disk: one flat array, memory-mapped, with a manifest that proves it whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.errors import InputError

__all__ = ["Manifest", "TokenStore", "build_store", "check_length", "default_cache_dir"]

_FORMAT = 1
_MANIFEST = "manifest.json"
_TOKENS = "tokens.bin"
_DOCUMENTS_PER_CALL = 256


@dataclass(frozen=True)
class Manifest:
    """What a store holds; written last, so a store without one is none.

    Attributes:
        format: number of the layout.
        source: digest of the documents, in order.
        tokenizer: the tokenizer's fingerprint.
        start_id: its start token, which stands before each document.
        dtype: of the ids, `uint16` or `uint32`.
        documents: how many.
        text_bytes: their UTF-8 bytes together.
        tokens: ids in the array, start and end tokens included.
        sha256: of the array's bytes.
    """

    format: int
    source: str
    tokenizer: str
    start_id: int
    dtype: str
    documents: int
    text_bytes: int
    tokens: int
    sha256: str


class TokenStore:
    """A read-only view of a store's folder.

    Attributes:
        manifest: what it holds.
        tokens: `<uint16 or uint32>[tokens]`, memory-mapped. Each document is its start token and
            its ids; one more start token ends the array, so that the last token of every document
            is followed by the token that ends it.
    """

    def __init__(self, folder: Path) -> None:
        """Open a whole store.

        Raises:
            ValueError: if the folder holds no store, or one that was cut off.
        """
        try:
            fields = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            self.manifest = Manifest(**fields)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{folder} holds no whole store: {error}") from error
        dtype = np.dtype(self.manifest.dtype)
        size = (folder / _TOKENS).stat().st_size if (folder / _TOKENS).exists() else -1
        if size != self.manifest.tokens * dtype.itemsize or self.manifest.format != _FORMAT:
            raise ValueError(f"{folder} holds a store that was cut off or has another layout")
        self.folder = folder
        self.tokens = np.memmap(folder / _TOKENS, dtype=dtype, mode="r")


def default_cache_dir() -> Path:
    """Where stores go: `$TFLLM_CACHE_DIR`, or `tfllm` below the user's cache folder."""
    chosen = os.environ.get("TFLLM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfllm"


def build_store(
    documents: Iterable[str],
    tokenizer: Any,
    *,
    cache_dir: str | Path | None = None,
) -> TokenStore:
    """Tokenize documents into a store, or open the one that was made of the same text before.

    Args:
        documents: read once to be recognised, and once more to be tokenized if they are new: an
            iterable that can be read again, not a generator.
        tokenizer: a `tfllm.text.Tokenizer` with a start token.
        cache_dir: stores lie below it, each under a digest of its text and tokenizer; None for
            `default_cache_dir()`.

    Returns:
        the store, opened.

    Raises:
        InputError: if the tokenizer has no start token, or the folder can't be written.
    """
    if tokenizer.bos_id is None:
        raise InputError(
            "the tokenizer has no start-of-document token, and packed documents need one. "
            "Name one as bos_token in the folder's special_tokens_map.json"
        )
    source = _digest(documents)
    name = hashlib.sha256(f"{_FORMAT} {source} {tokenizer.fingerprint}".encode()).hexdigest()[:24]
    folder = Path(cache_dir or default_cache_dir()) / name
    with contextlib.suppress(ValueError):  # none yet, or a damaged one
        return TokenStore(folder)
    hidden = folder.parent / f".{name}-{uuid.uuid4().hex[:8]}"
    try:
        hidden.mkdir(parents=True)
        _write(hidden, documents, tokenizer, source)
        _publish(hidden, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"the token store {folder} can't be written: {reason}. Name a folder for stores "
            "with the environment variable TFLLM_CACHE_DIR"
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return TokenStore(folder)


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


def _publish(hidden: Path, folder: Path) -> None:
    try:
        os.rename(hidden, folder)
    except OSError:
        try:
            TokenStore(folder)  # another process was faster, with the same content
        except ValueError:
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            os.rename(hidden, folder)


def _digest(documents: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        data = document.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def _write(folder: Path, documents: Iterable[str], tokenizer: Any, source: str) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocabulary_size <= 1 << 16 else np.uint32)
    start = np.array([tokenizer.bos_id], dtype)
    digest = hashlib.sha256()
    tokens = count = text_bytes = 0
    with (folder / _TOKENS).open("wb") as file:

        def append(ids: np.ndarray) -> None:
            nonlocal tokens
            tokens += len(ids)
            digest.update(ids.tobytes())
            file.write(ids.tobytes())

        for batch in _batches(documents, _DOCUMENTS_PER_CALL):
            encodings = tokenizer.fast.encode_batch_fast(batch, add_special_tokens=False)
            for document, encoding in zip(batch, encodings, strict=True):
                append(np.concatenate([start, np.asarray(encoding.ids, dtype)]))
                count += 1
                text_bytes += len(document.encode())
        append(start)
        file.flush()
        os.fsync(file.fileno())
    manifest = Manifest(
        format=_FORMAT,
        source=source,
        tokenizer=tokenizer.fingerprint,
        start_id=tokenizer.bos_id,
        dtype=dtype.name,
        documents=count,
        text_bytes=text_bytes,
        tokens=tokens,
        sha256=digest.hexdigest(),
    )
    (folder / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def _batches(documents: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in documents:
        batch.append(document)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
