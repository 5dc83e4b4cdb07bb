"""Work that would keep the event loop from other requests, done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["BYTES_PER_VALUE", "aside"]

BYTES_PER_VALUE = 8  # of an array that is to be written out, about

_LONG = 65_536  # bytes from which on reading or writing would keep other requests waiting

_Result = TypeVar("_Result")


async def aside(size: int, work: Callable[..., _Result], *arguments: object) -> _Result:
    """Do work on so many bytes: what is long, in a thread."""
    if size > _LONG:
        return await asyncio.to_thread(work, *arguments)
    return work(*arguments)
