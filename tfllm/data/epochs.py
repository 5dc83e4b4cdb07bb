"""Which step of which epoch a step is."""

from __future__ import annotations

from tfllm.errors import InputError

__all__ = ["check_batch_size", "place_in_epoch"]


def place_in_epoch(step: int, steps_per_epoch: int) -> tuple[int, int]:
    """Give the epoch of a step, and which of the epoch's steps it is; both count from 0.

    Args:
        step: counts optimizer steps from 0, through all epochs.
        steps_per_epoch: at least 1 where there is a row.

    Raises:
        InputError: if there is none.
    """
    if not steps_per_epoch:
        raise InputError("there are no rows to deal to steps: the data holds none. Give some")
    return divmod(step, steps_per_epoch)


def check_batch_size(global_batch_size: int) -> None:
    """See that a step has rows.

    Raises:
        InputError: if not.
    """
    if global_batch_size < 1:
        raise InputError(f"global_batch_size must be at least 1. Received: {global_batch_size}")
