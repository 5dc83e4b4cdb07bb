"""Shards of a source, written by several processes at once, given back in order."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tfllm.data.encoders.encoder import Encoder
from tfllm.data.shards import write_shard
from tfllm.errors import InputError

__all__ = ["write_shards"]

Chunk = Sequence[Mapping[str, Any]]
# Fewer chunks are written by this process alone, whose tokenizer has a thread for each core: other
# processes take some tenths of a second to start and to be sent their share.
_FEW = 64


def write_shards(
    chunks: Iterable[Chunk], encoder: Encoder, folder: Path, processes: int | None = None
) -> Iterator[Path]:
    """Write each chunk of examples as a shard; give the shards in the order of the chunks.

    The processes are fresh Pythons that import neither TensorFlow nor the main script, so that
    scripts need no guard. Until they have started, this one encodes too.

    Args:
        chunks: read as fast as they are dealt out.
        encoder: one that stands in a script is not sent away: this process encodes alone.
        folder: where the shards go.
        processes: how many besides this one; None for one a core, or none at all for few chunks.

    Raises:
        InputError: the first in the order of the chunks that the encoder raises, or if a process
            dies.
    """
    chunks = iter(chunks)
    first: list[Chunk] = []
    if processes is None:
        first = list(islice(chunks, _FEW))
        processes = len(os.sched_getaffinity(0)) if len(first) == _FEW else 0
    numbered = ((folder / f"{i:08d}.npz", chunk) for i, chunk in enumerate(chain(first, chunks)))
    if processes == 0 or type(encoder).__module__ == "__main__":
        yield from _alone(numbered, encoder)
    else:
        yield from _together(numbered, encoder, processes)


def _alone(numbered: Iterable[tuple[Path, Chunk]], encoder: Encoder) -> Iterator[Path]:
    for path, chunk in numbered:
        write_shard(chunk, encoder, path)
        yield path


def _together(
    numbered: Iterable[tuple[Path, Chunk]], encoder: Encoder, processes: int
) -> Iterator[Path]:
    due: list[Path] = []
    ended: dict[Path, Exception | None] = {}
    with _Team(encoder, processes) as team:
        for path, chunk in numbered:
            due.append(path)
            if not team.deal(chunk, path):
                ended[path] = _write_here(chunk, encoder, path)
            ended |= team.ended()
            yield from _in_order(due, ended)
        while due:
            team.listen()
            ended |= team.ended()
            yield from _in_order(due, ended)


def _write_here(chunk: Chunk, encoder: Encoder, path: Path) -> Exception | None:
    try:
        write_shard(chunk, encoder, path)
    except (InputError, OSError) as error:  # an earlier chunk, elsewhere, may have a worse one
        return error
    return None


def _in_order(due: list[Path], ended: dict[Path, Exception | None]) -> Iterator[Path]:
    while due and due[0] in ended:
        error = ended.pop(due[0])
        if error is not None:
            raise error
        yield due.pop(0)


class _Worker:
    """One process, and what it is at."""

    def __init__(self) -> None:
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tfllm.data.shard_worker", str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        # Nobody else holds this end, so it hears at once when this process is gone.
        self.line = Connection(ours.detach())
        self.ready = False
        self.path: Path | None = None

    @property
    def idle(self) -> bool:
        return self.ready and self.path is None

    def send(self, message: object) -> None:
        try:
            self.line.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def receive(self) -> tuple[str, str]:
        try:
            return self.line.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None

    def end(self) -> None:
        self.line.close()
        self._process.kill()
        self._process.wait()

    def _died(self) -> InputError:
        return InputError(
            f"a process that encodes examples ended with exit code {self._process.wait()}. If "
            "memory ran out, take fewer processes"
        )


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),  # the same modules as here
        "TOKENIZERS_PARALLELISM": "false",  # a thread for each process
        "OPENBLAS_NUM_THREADS": "1",
    }


class _Team:
    """Some workers; each writes one shard at a time."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder = encoder
        self._workers: list[_Worker] = []
        self._ended: dict[Path, Exception | None] = {}
        try:
            for _ in range(size):
                self._workers.append(_Worker())
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Team:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def deal(self, chunk: Chunk, path: Path) -> bool:
        """Give a chunk to an idle worker; False if there is none, and some are still starting."""
        self.listen(0)
        while not any(worker.idle for worker in self._workers):
            if not all(worker.ready for worker in self._workers):
                return False
            self.listen()
        worker = next(worker for worker in self._workers if worker.idle)
        worker.path = path
        worker.send((chunk, str(path)))
        return True

    def ended(self) -> dict[Path, Exception | None]:
        """Shards that were written since the last time, or why not."""
        ended, self._ended = self._ended, {}
        return ended

    def listen(self, timeout: float | None = None) -> None:
        """Take what workers have to say; without a timeout, wait until there is something."""
        said = wait([worker.line for worker in self._workers], timeout)
        for worker in self._workers:
            if worker.line in said:
                self._hear(worker, *worker.receive())

    def _hear(self, worker: _Worker, word: str, detail: str) -> None:
        if word == "hello":
            worker.send(self._encoder)  # not before it listens: a tokenizer fills a pipe
        elif word == "ready":
            worker.ready = True
        else:
            assert worker.path is not None
            self._ended[worker.path] = _error(word, detail)
            worker.path = None


def _error(word: str, detail: str) -> Exception | None:
    if word == "input_error":
        return InputError(detail)
    if word == "os_error":
        return OSError(detail)
    return RuntimeError(f"encoding failed in another process:\n{detail}") if detail else None
