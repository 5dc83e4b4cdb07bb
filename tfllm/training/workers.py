"""The processes that train one model together, seen from one of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from tfllm.errors import InputError

__all__ = ["Batches", "Workers"]


class Batches(Protocol):
    """Gives the batches of some steps.

    Only where there are several workers it is called with `worker` and `workers`, and gives that
    worker's rows of each step. The shares are equally large, disjoint, and together the batch.
    """

    def __call__(
        self, first_step: int, steps: int, /, *, worker: int = 0, workers: int = 1
    ) -> tf.data.Dataset:
        """Return a dataset of `steps` batches, the first of them that of step `first_step`."""


class Workers:
    """The workers of a strategy, which must all decide alike.

    Each worker has all weights and takes part in every sum over replicas. One that left a step
    out would leave the others waiting for ever, so whatever depends on what only one of them
    knows (a signal, a file, a number) is agreed on first. Every worker must make the same calls
    in the same order. Where there is only one, nothing is exchanged.

    Attributes:
        index: this worker's number, from 0.
        count: how many there are.
        is_chief: whether this is worker 0, which writes what is written.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        """Look at a strategy.

        Args:
            strategy: the one that the model was made in.
        """
        extended = strategy.extended
        # Other strategies than MultiWorkerMirroredStrategy have neither name.
        self.count = int(getattr(extended, "_num_workers", 1))
        self.index = int(getattr(extended, "_id_in_cluster", 0))
        self.is_chief = self.index == 0
        self._strategy = strategy
        self._sum: Any = None

    def gather(self, value: float) -> list[float]:
        """Exchange a number: everybody's, by worker. Exact for integers up to 2⁵³."""
        if self.count == 1:
            return [value]
        if self._sum is None:
            self._sum = self._create_sum()
        row = [0.0] * self.count
        row[self.index] = float(value)
        return [float(v) for v in self._sum(tf.constant(row, tf.float64)).numpy()]

    def wait(self) -> None:
        """Go on when all workers have come here."""
        self.gather(0)

    def agree(self, value: int) -> int:
        """Return the highest of all workers' values."""
        return int(max(self.gather(value)))

    def from_chief(self, value: float) -> float:
        """Return the chief's value."""
        return self.gather(value)[0]

    def without(self, has: bool) -> list[int]:
        """Return the numbers of the workers that do not have something."""
        return [index for index, answer in enumerate(self.gather(float(has))) if not answer]

    def require_same(self, facts: Mapping[str, object]) -> None:
        """See that all workers were started to do the same.

        Raises:
            InputError: the same on all workers, naming what differs and where.
        """
        for name, value in facts.items():
            digests = self.gather(zlib.crc32(json.dumps(value, default=str).encode()))
            others = [i for i, digest in enumerate(digests) if digest != digests[0]]
            if others:
                raise InputError(
                    f"worker {others[0]} of {self.count} has another {name} than worker 0. Start "
                    "all workers with the same flags and the same data"
                )

    def share(self, batches: Batches, first_step: int, steps: int) -> Any:
        """Give this worker its rows of some steps, as `model.fit` takes them.

        `model.fit` would deal out global batches rightly too, but then every worker gathers all
        rows to throw most of them away.

        Args:
            batches: see `Batches`.
            first_step: where to start.
            steps: how many.
        """
        if self.count == 1:
            return batches(first_step, steps)
        rows = batches(first_step, steps, worker=self.index, workers=self.count)
        devices = self._strategy.num_replicas_in_sync // self.count
        if devices > 1:
            rows = rows.map(lambda *batch: _dealt(batch, devices)).unbatch()
        # For an endless dataset workers need not ask one another in every step who has rows left.
        rows = rows.repeat()
        return self._strategy.distribute_datasets_from_function(lambda context: rows)

    def _create_sum(self) -> Any:
        strategy, devices = self._strategy, self._strategy.num_replicas_in_sync // self.count

        def add(row: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # Of a worker's devices only the first speaks for it. Each row is zero but for one
            # number, and so the sum holds them all.
            speaks = context.replica_id_in_sync_group % devices == 0
            return context.all_reduce(
                tf.distribute.ReduceOp.SUM, tf.where(speaks, row, tf.zeros_like(row))
            )

        @tf.function(autograph=False)
        def everywhere(row: tf.Tensor) -> tf.Tensor:
            return strategy.experimental_local_results(strategy.run(add, args=(row,)))[0]

        return everywhere


def _dealt(batch: Any, parts: int) -> Any:
    """`[rows, …]` → `[parts, rows / parts, …]`, for each tensor."""

    def deal(tensor: tf.Tensor) -> tf.Tensor:
        known = tensor.shape[1:]
        dealt = tf.reshape(tensor, tf.concat([[parts, -1], tf.shape(tensor)[1:]], axis=0))
        return tf.ensure_shape(dealt, [parts, None, *known])

    return tf.nest.map_structure(deal, batch)
