"""The most rows that fit into a memory."""

from __future__ import annotations

import dataclasses

from tfllm.planning.memory import estimate_memory
from tfllm.planning.training_plan import TrainingPlan

__all__ = ["largest_batch", "suggest_accumulation"]

_MOST_ROWS = 1 << 20


def largest_batch(plan: TrainingPlan, memory: int) -> int:
    """Find the most rows of a micro-batch on one device.

    Args:
        plan: what is trained; its rows don't matter.
        memory: bytes that the process may take.

    Returns:
        the number; 0 where not even one row fits.
    """

    def fits(rows: int) -> bool:
        return estimate_memory(dataclasses.replace(plan, rows=rows)).total <= memory

    if not fits(1):
        return 0
    low, high = 1, 2
    while high < _MOST_ROWS and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def suggest_accumulation(plan: TrainingPlan, rows: int, memory: int) -> int | None:
    """Find the fewest micro-batches that let a device's rows fit.

    Args:
        plan: what is trained; its rows and micro-batches don't matter.
        rows: of one device in an optimizer step.
        memory: bytes that the process may take.

    Returns:
        a divisor of `rows`; None where not even single rows fit.
    """
    for parts in range(1, rows + 1):
        if rows % parts:
            continue
        cut = dataclasses.replace(plan, rows=rows // parts, accumulate_steps=parts)
        if estimate_memory(cut).total <= memory:
            return parts
    return None
