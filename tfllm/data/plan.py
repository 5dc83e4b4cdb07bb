"""Which blocks of a stream a step reads: a pure function of (seed, step), equally cheap for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfllm.data.epochs import check_batch_size, place_in_epoch
from tfllm.data.permutation import permuted, random_number
from tfllm.data.worker_share import worker_share

__all__ = ["BlockPlan", "permuted"]


@dataclass(frozen=True)
class BlockPlan:
    """Cuts a token stream into blocks and deals them to steps.

    Attributes:
        tokens: length of the stream.
        sequence_length: positions of a block; its targets reach one token further.
        global_batch_size: blocks of a step.
        seed: decides the order; None for the stream's own order, every target exactly once.
    """

    tokens: int
    sequence_length: int
    global_batch_size: int
    seed: int | None

    def __post_init__(self) -> None:
        """Check the batch size."""
        check_batch_size(self.global_batch_size)

    @property
    def blocks(self) -> int:
        """Blocks of an epoch, the last of the stream perhaps cut short."""
        targets = self.tokens - 1
        if not self._shifts:
            return -(-targets // self.sequence_length)
        return targets // self.sequence_length - 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the last perhaps with fewer blocks."""
        return -(-self.blocks // self.global_batch_size)

    @property
    def _shifts(self) -> bool:
        # A shuffled epoch starts somewhere in the first block, so that blocks begin elsewhere in
        # each; it costs two blocks, too many where there are few.
        return self.seed is not None and self.tokens > 64 * self.sequence_length

    def block_starts(self, step: int, worker: int = 0, workers: int = 1) -> np.ndarray:
        """First token of each block of a step, `<int64>[blocks]`; the last step may have fewer.

        Args:
            step: counts optimizer steps from 0, through all epochs.
            worker: counts from 0.
            workers: how many share the step's blocks; their shares are disjoint.
        """
        epoch, at = place_in_epoch(step, self.steps_per_epoch)
        share = worker_share(self.global_batch_size, worker, workers)
        first = at * self.global_batch_size
        end = min(first + share.stop, self.blocks)
        rows = np.arange(first + share.start, end, dtype=np.int64)
        if self.seed is None:
            return rows * self.sequence_length
        rows = permuted(rows, self.blocks, self.seed, epoch)
        return rows * self.sequence_length + self._shift(epoch)

    def _shift(self, epoch: int) -> int:
        if not self._shifts or self.seed is None:
            return 0
        return random_number(self.sequence_length, self.seed, epoch)
