"""Portraits of made-up persons, and queries that say in other words what stands there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfllm.data.showcase.answers import portraits

__all__ = ["search"]

_HINTS = {
    "job": {
        "baker": "makes bread",
        "dentist": "looks after teeth",
        "teacher": "stands in front of a class",
        "pilot": "flies planes",
        "gardener": "grows flowers",
        "lawyer": "speaks in court",
        "painter": "brings colour to walls",
        "nurse": "helps sick people",
        "farmer": "ploughs fields",
        "plumber": "mends pipes",
        "tailor": "sews clothes",
        "miner": "digs for coal",
    },
    "animal": {
        "cat": "purrs",
        "dog": "barks",
        "parrot": "repeats words",
        "horse": "gallops",
        "rabbit": "nibbles carrots",
        "turtle": "hides in a shell",
        "goat": "gives milk",
        "canary": "sings",
        "hamster": "runs in a wheel",
        "pony": "carries children",
    },
}
# Slots that a query names, the second of them in other words.
_QUERIES = {
    ("place", "job"): "Who in {place} {hint} ?",
    ("place", "animal"): "Somebody in {place} with a pet that {hint}",
    ("name", "job"): "Is there a {name} who {hint} ?",
    ("name", "animal"): "Where is the {name} whose pet {hint} ?",
}


def search() -> Iterator[dict[str, Any]]:
    """Yield `{"query", "document", "negatives"}`: each query with every portrait that fits it."""
    all_portraits = list(portraits())
    for slots, form in _QUERIES.items():
        fitting: dict[tuple[str, ...], list[str]] = {}
        for filling, text in all_portraits:
            fitting.setdefault(tuple(filling[slot] for slot in slots), []).append(text)
        for (first, second), texts in fitting.items():
            query = form.format(**{slots[0]: first, "hint": _HINTS[slots[1]][second]})
            for text in texts:
                yield {"query": query, "document": text, "negatives": []}
