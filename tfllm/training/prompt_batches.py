"""Continuing many prompts, those of like length together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm import tqdm

__all__ = ["generate_texts"]

_SECONDS_WITHOUT_BAR = 2.0

# A text, or whatever a caller has for each prompt.
_Text = TypeVar("_Text")


def generate_texts(
    generate: Callable[[list[str]], Sequence[_Text]],
    prompts: Sequence[str],
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> list[_Text]:
    """Continue prompts in batches of like length, the longest first, and keep their order.

    Where `generate` gives each prompt what it gives it alone, so does this. The longest come first
    so that what does not fit into memory fails at once, and the bar's estimate is not too short.

    Args:
        generate: prompts → as many continuations.
        prompts: any number.
        batch_size: prompts that are given to `generate` together.
        progress: whether a terminal shows a bar, after two seconds.

    Raises:
        ValueError: if `generate` gives more or fewer texts than it was given.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].encode()), i))
    texts: dict[int, _Text] = {}
    with tqdm(
        total=len(prompts),
        desc="generating",
        unit=" texts",
        delay=_SECONDS_WITHOUT_BAR,
        disable=None if progress else True,  # None: only a terminal shows it
        dynamic_ncols=True,
        leave=False,
    ) as bar:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            generated = generate([prompts[i] for i in chosen])
            for i, text in zip(chosen, generated, strict=True):
                texts[i] = text
            bar.update(len(chosen))
    return [texts[i] for i in range(len(prompts))]
