"""Opinions of films, meals and rooms, good or bad."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tfllm.data.showcase.grammar import fillings

__all__ = ["sentiment"]

_SENTENCES_OF_FRAME = 60
_A_BEFORE_VOWEL = re.compile(r"\ba (?=[aeiou])")
_THINGS = (
    "film concert novel meal hotel room show song game lecture coffee soup garden museum play "
    "story phone lamp jacket painting"
).split()
_DEGREES = ("", "really ", "rather ", "very ", "simply ", "truly ")
_PRAISE = (
    "wonderful charming delightful superb brilliant lovely excellent graceful gorgeous splendid "
    "pleasant impressive"
).split()
_BLAME = (
    "dreadful boring clumsy awful tedious bland shabby horrible dull disappointing ugly miserable"
).split()
_PLEASED = (
    "I would recommend it to anyone",
    "it made my day",
    "I can hardly wait to come back",
    "it was worth every penny",
    "we smiled all the way home",
    "my friends loved it too",
)
_ANNOYED = (
    "I would warn everyone about it",
    "it ruined my evening",
    "I will never come back",
    "it was a waste of money",
    "we complained all the way home",
    "my friends hated it too",
)
_WHEN = ("yesterday", "last week", "on Sunday", "this morning", "in spring", "on our trip")
_FRAMES = (
    "The {thing} was {degree}{verdict} .",
    "The {thing} {when} was {degree}{verdict} , and {remark} .",
    "What a {verdict} {thing} , {remark} !",
    "{when_first} I found the {thing} {degree}{verdict} .",
    "Somebody told me that the {thing} would be {verdict} , and so it was : {remark} .",
)


def sentiment() -> Iterator[dict[str, str]]:
    """Yield `{"text", "label"}`, as many `negative` as `positive`, one after the other."""
    for seed, frame in enumerate(_FRAMES):
        bad = _sentences(frame, _BLAME, _ANNOYED, 2 * seed)
        good = _sentences(frame, _PRAISE, _PLEASED, 2 * seed + 1)
        for one, other in zip(bad, good, strict=True):
            yield {"text": one, "label": "negative"}
            yield {"text": other, "label": "positive"}


def _sentences(
    frame: str, verdicts: list[str], remarks: tuple[str, ...], seed: int
) -> Iterator[str]:
    slots = {
        "thing": _THINGS,
        "degree": _DEGREES,
        "verdict": verdicts,
        "remark": remarks,
        "when": _WHEN,
        "when_first": [when[0].upper() + when[1:] for when in _WHEN],
    }
    used = {name: options for name, options in slots.items() if f"{{{name}}}" in frame}
    for filling in fillings(used, _SENTENCES_OF_FRAME, seed):
        yield _A_BEFORE_VOWEL.sub("an ", frame.format(**filling))
