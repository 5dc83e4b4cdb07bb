"""Building a store of arrays: examples → encoder → columns on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfllm.data.array_manifest import FORMAT, ArrayManifest
from tfllm.data.array_store import ArrayStore
from tfllm.data.encoders.encoder import Encoder
from tfllm.data.shard_workers import write_shards
from tfllm.data.shards import ShardJoiner
from tfllm.data.stores import default_cache_dir, new_folder
from tfllm.errors import InputError

__all__ = ["build_array_store"]

Example = Mapping[str, Any]
# What goes to a process at once. Large enough that sending it costs little, small enough that
# the processes end at nearly the same time.
_CHUNK_CHARACTERS = 1 << 18
_CHUNK_EXAMPLES = 4096


def build_array_store(
    examples: Iterable[Example],
    encoder: Encoder,
    *,
    cache_dir: str | Path | None = None,
    processes: int | None = None,
) -> ArrayStore:
    """Encode examples into a store, or open the one that was made of the same examples before.

    The bytes are the same however many processes there are.

    Args:
        examples: read once to be recognised, and once more to be encoded if they are new: an
            iterable that can be read again, not a generator. If it has a method `digest()`, that
            names its content instead, as the readers of `tfllm.data.readers` do by their files.
        encoder: see `tfllm.data.encoders`.
        cache_dir: stores lie below it, each under a digest of its source and encoder; None for
            `default_cache_dir()`.
        processes: how many encode beside this one; None for one a core, none for little text.

    Returns:
        the store, opened.

    Raises:
        InputError: if an example can't be encoded, the examples change while they are read, or
            the folder can't be written.
    """
    source = _Source(examples)
    recognised = source.digest()
    identity = json.dumps([FORMAT, recognised, encoder.identity()], sort_keys=True)
    name = hashlib.sha256(identity.encode()).hexdigest()[:24]
    folder = Path(cache_dir or default_cache_dir()) / name
    if _is_whole(folder):
        return ArrayStore(folder)
    try:
        with new_folder(folder, _is_whole) as hidden:
            _write(hidden, source, recognised, encoder, processes)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"the token store {folder} can't be written: {reason}. Name a folder for stores "
            "with the environment variable TFLLM_CACHE_DIR"
        ) from error
    return ArrayStore(folder)


def _is_whole(folder: Path) -> bool:
    try:
        ArrayStore(folder)
    except ValueError:  # none yet, or a damaged one
        return False
    return True


def _write(
    hidden: Path, source: _Source, recognised: str, encoder: Encoder, processes: int | None
) -> None:
    with ShardJoiner(hidden) as joiner:
        for shard in write_shards(source.chunks(), encoder, hidden, processes):
            joiner.append(shard)
        columns = joiner.finish()
    if source.digest_of_read() != recognised:
        raise InputError(
            "the examples changed while they were read, or can be read only once. Give an "
            "iterable that gives the same examples each time, and leave its files alone"
        )
    ArrayManifest(
        format=FORMAT,
        source=recognised,
        encoder=encoder.identity(),
        rows=joiner.rows,
        counts={**joiner.counts, **source.counts()},
        columns=columns,
    ).write(hidden)


class _Source:
    """Examples, and the digest that tells them from others."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._examples = examples
        self._own_digest = getattr(examples, "digest", None)
        self._read = _Digest()

    def digest(self) -> str:
        """Digest of the examples in order, or the one that they give of themselves."""
        if self._own_digest is not None:
            return self._own_digest()
        digest = _Digest()
        for chunk in _chunks(self._examples):
            digest.update(chunk)
        return digest.hexdigest()

    def digest_of_read(self) -> str:
        """The same again, of what `chunks` gave."""
        return self.digest() if self._own_digest is not None else self._read.hexdigest()

    def counts(self) -> dict[str, int]:
        """What the last pass left out, where the examples say so, as readers do."""
        skipped = getattr(self._examples, "skipped", None)
        return {} if skipped is None else {"rows_skipped": skipped.count}

    def chunks(self) -> Iterator[list[Example]]:
        """Give the examples some at a time, at least one chunk: an encoder names its columns."""
        given = False
        for chunk in _chunks(self._examples):
            if self._own_digest is None:
                self._read.update(chunk)
            yield chunk
            given = True
        if not given:
            yield []


class _Digest:
    """Digest of examples as one JSON list, however they come in chunks."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._json = json.JSONEncoder(sort_keys=True)

    def update(self, chunk: list[Example]) -> None:
        try:
            text = self._json.encode(chunk)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"an example holds what JSON doesn't know: {error}. Give text, numbers, lists and "
                f"dictionaries. The first of its neighbours: {str(chunk[0])[:80]}"
            ) from None
        self._sha256.update(text[1:-1].encode() + b", ")

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        for value in example.values():
            characters += len(value) if isinstance(value, str) else _characters(value)
        if characters >= _CHUNK_CHARACTERS or len(chunk) == _CHUNK_EXAMPLES:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(value: Any) -> int:
    """About how much a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_characters, value))
    return 1
