"""That a bundle stays as it is, however often it is asked."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tfllm.export.errors import ExportError
from tfllm.export.probes import Case
from tfllm.serving.session import Session

__all__ = ["check_state"]

# Allocators keep some of what they are given, whatever the model.
_GROWTH_ALLOWED = 16 << 20


def check_state(
    session: Session, cases: Sequence[Case], *, calls: int = 1000, seconds: float = 5.0
) -> int:
    """Ask each signature its shortest request again and again.

    The rules for ops already refuse what can keep state; this looks at what that amounts to. The
    calls are dealt out evenly; a signature that takes too long gets fewer of them.

    Args:
        session: the bundle.
        cases: requests, of which each signature's smallest is taken.
        calls: in all.
        seconds: in all, roughly.

    Returns:
        How many calls were made.

    Raises:
        ExportError: memory grew, or the last answer is not the first.
    """
    shortest: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.size):
        shortest.setdefault(case.signature, case)
    made = 0
    for case in shortest.values():
        made += _ask(session, case, -(-calls // len(shortest)), seconds / len(shortest))
    return made


def _ask(session: Session, case: Case, calls: int, seconds: float) -> int:
    first = session.run(case.signature, case.inputs)
    start = time.monotonic()
    before, warm, made = 0, 0, 0
    while made < calls and (made < 2 or time.monotonic() < start + seconds):
        # After a fifth, of the calls or of the time, allocators have what they need.
        if not before and (made == calls // 5 or time.monotonic() > start + seconds / 5):
            before, warm = _anonymous_bytes(), made
        last = session.run(case.signature, case.inputs)
        made += 1
    grown = _anonymous_bytes() - before if before else 0
    if grown > _GROWTH_ALLOWED:
        message = f"memory grew by {grown >> 20} MiB in {made - warm} short calls"
        raise ExportError("state", message, case.signature)
    for name, answer in last.items():
        if not np.array_equal(answer, first[name], equal_nan=answer.dtype.kind == "f"):
            message = f"{name!r} changes when the same request is sent {made} times"
            raise ExportError("state", message, case.signature)
    return made


def _anonymous_bytes() -> int:
    """Read how much memory this process has that no file backs."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024
