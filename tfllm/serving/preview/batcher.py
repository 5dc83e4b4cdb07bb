"""Requests that wait for a worker, computed together where that changes no answer."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import time
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfllm.serving.errors import SessionError
from tfllm.serving.preview.model_version import ModelVersion
from tfllm.serving.signature import Signature

__all__ = ["Batcher"]

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Task:
    """A request that waits."""

    version: ModelVersion
    signature_name: str
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]
    rows: int
    deadline: float
    answer: asyncio.Future[Arrays]


class Batcher:
    """A bounded queue in front of a few threads.

    Requests are not held back to fill a batch: those that came while all workers were busy go
    together, if they are for the same signature of the same version, fit each other, and the
    signature gives one row of a known shape per row it takes. Where a batch fails, its requests are
    run one by one, so that a bad one spoils no other.
    """

    def __init__(self, workers: int, max_waiting: int, max_batch_rows: int) -> None:
        """Start idle.

        Args:
            workers: computations at a time.
            max_waiting: requests that may wait for a worker.
            max_batch_rows: rows computed together.
        """
        self._workers = workers
        self._max_waiting = max_waiting
        self._max_rows = max_batch_rows
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="run")
        self._busy = 0
        self._waiting = 0
        # What fits together → its tasks, the group that waits longest first.
        self._groups: dict[Hashable, collections.deque[_Task]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(
        self,
        version: ModelVersion,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        timeout: float,
        outputs: tuple[str, ...] = (),
    ) -> Arrays:
        """Answer one request.

        Args:
            version: who answers; it stays loaded meanwhile.
            signature_name: one of its signatures.
            inputs: every input → its array.
            timeout: seconds, waiting included.
            outputs: which outputs to compute; none named: all.

        Raises:
            SessionError: UNAVAILABLE, too many wait already; DEADLINE_EXCEEDED, it took too long;
                or what the model's session refused.
        """
        if self._waiting >= self._max_waiting:
            message = (
                "The batch scheduling queue to which this task was submitted is full; "
                f"{self._waiting} requests wait already: try again later"
            )
            raise SessionError("UNAVAILABLE", message)
        signature = version.signatures[signature_name]
        rows = _rows(inputs)
        task = _Task(
            version,
            signature_name,
            inputs,
            outputs,
            rows,
            time.monotonic() + timeout,
            asyncio.get_running_loop().create_future(),
        )
        key = (id(version), signature_name, outputs, _shapes(inputs))
        together = 0 < rows < self._max_rows and _is_safe(signature)
        with version.lease():
            self._add(task, key if together else object())
            try:
                return await asyncio.wait_for(task.answer, timeout)
            except TimeoutError as error:
                message = f"no answer within {timeout:g} seconds"
                raise SessionError("DEADLINE_EXCEEDED", message) from error

    def _add(self, task: _Task, key: Hashable) -> None:
        self._waiting += 1
        self._groups.setdefault(key, collections.deque()).append(task)
        self._start()

    def _start(self) -> None:
        while self._groups and self._busy < self._workers:
            batch = self._next_batch()
            if not batch:
                continue
            self._busy += 1
            running = asyncio.get_running_loop().create_task(self._answer(batch))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    def _next_batch(self) -> list[_Task]:
        """Take tasks that fit together; those that nobody waits for any more are dropped."""
        key = next(iter(self._groups))
        group = self._groups.pop(key)
        batch: list[_Task] = []
        rows = 0
        while group and (not batch or rows + group[0].rows <= self._max_rows):
            task = group.popleft()
            self._waiting -= 1
            if not task.answer.done():
                batch.append(task)
                rows += task.rows
        if group:
            self._groups[key] = group  # now behind all other groups
        return batch

    async def _answer(self, batch: list[_Task]) -> None:
        loop = asyncio.get_running_loop()
        stopped = SessionError("CANCELLED", "the server was stopped before there was an answer")
        answers: list[Arrays | Exception] = [stopped] * len(batch)
        try:
            # A task that timed out has let go of its lease; its neighbours hold the same version.
            with batch[0].version.lease():
                answers = await loop.run_in_executor(self._threads, _run_batch, batch)
        except Exception as error:  # it belongs to whoever waits for the answers
            answers = [error] * len(batch)
        finally:
            self._busy -= 1
            _deliver(batch, answers)
            self._start()

    async def close(self) -> None:
        """Finish what runs and stop the threads."""
        if self._running:
            await asyncio.wait(self._running)
        self._threads.shutdown()


def _deliver(batch: list[_Task], answers: list[Arrays | Exception]) -> None:
    for task, answer in zip(batch, answers, strict=True):
        if task.answer.done():
            continue
        if isinstance(answer, Exception):
            task.answer.set_exception(answer)
        else:
            task.answer.set_result(answer)


def _run_batch(batch: list[_Task]) -> list[Arrays | Exception]:
    """Compute a batch in one go, or one by one where that fails."""
    if len(batch) > 1:
        try:
            return list(_together(batch))
        except Exception:  # too much memory for all at once, say: each is tried by itself
            pass
    return [_alone(task) for task in batch]


def _together(batch: list[_Task]) -> list[Arrays]:
    first = batch[0]
    inputs = {name: np.concatenate([task.inputs[name] for task in batch]) for name in first.inputs}
    timeout = max(task.deadline for task in batch) - time.monotonic()
    outputs = first.version.run(first.signature_name, inputs, first.outputs, timeout)
    ends = np.cumsum([task.rows for task in batch])
    if any(not array.ndim or len(array) != ends[-1] for array in outputs.values()):
        raise SessionError("INTERNAL", "an output has not as many rows as the inputs")
    pieces = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
    return [{name: parts[i] for name, parts in pieces.items()} for i in range(len(batch))]


def _alone(task: _Task) -> Arrays | Exception:
    timeout = task.deadline - time.monotonic()
    if timeout <= 0:
        message = "Run() timeout exceeded while waiting in batching queue"
        return SessionError("RESOURCE_EXHAUSTED", message)
    try:
        return task.version.run(task.signature_name, task.inputs, task.outputs, timeout)
    except Exception as error:  # it belongs to whoever waits for the answer
        return error


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    """Count the rows that all inputs have in common; 0 where they don't."""
    sizes = {len(array) if array.ndim else 0 for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def _shapes(inputs: Mapping[str, np.ndarray]) -> Hashable:
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(inputs.items()))


def _is_safe(signature: Signature) -> bool:
    """Say whether a row's answer has the same shape whatever rows are beside it."""
    takes = all(spec.shape and spec.shape[0] is None for spec in signature.inputs.values())
    gives = all(
        spec.shape and spec.shape[0] is None and None not in spec.shape[1:]
        for spec in signature.outputs.values()
    )
    return bool(signature.inputs) and takes and gives
