"""Which of a step's rows a worker reads."""

from __future__ import annotations

from tfllm.errors import InputError

__all__ = ["worker_share"]


def worker_share(rows: int, worker: int, workers: int) -> slice:
    """Places of one worker's rows in the global batch.

    The shares are equally large, disjoint, and together the whole batch in its order.

    Args:
        rows: of the global batch, missing ones included.
        worker: counts from 0.
        workers: how many.

    Raises:
        InputError: if the rows can't be dealt out evenly.

    Example:
        8 rows, worker 1 of 4 → places 2 and 3.
    """
    if not 0 <= worker < workers:
        raise InputError(f"worker must be at least 0 and below {workers}. Received: {worker}")
    if rows % workers:
        raise InputError(
            f"{rows} rows of a step can't be dealt evenly to {workers} workers. Give a global "
            "batch size that is a multiple of the workers"
        )
    share = rows // workers
    return slice(worker * share, (worker + 1) * share)
