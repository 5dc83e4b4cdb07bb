"""A bar for work that takes a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress"]

_SECONDS_WITHOUT_BAR = 2.0


@contextlib.contextmanager
def progress(
    description: str, unit: str, total: int | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, after two seconds.

    Args:
        description: what is being done.
        unit: what is counted.
        total: how many there are; None where nobody knows.

    Yields:
        what is called with how many more are done.
    """
    from tqdm import tqdm

    with tqdm(
        desc=description,
        unit=f" {unit}",
        total=total,
        delay=_SECONDS_WITHOUT_BAR,
        disable=None,  # only a terminal shows it
        dynamic_ncols=True,
        leave=False,
    ) as bar:
        yield lambda count: bar.update(count) and None
