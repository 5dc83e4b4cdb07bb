"""News of made-up persons, places and organisations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tfllm.data.showcase.grammar import fillings

__all__ = ["FIRST_NAMES", "PLACES", "entities"]

_SENTENCES_OF_FRAME = 50
FIRST_NAMES = (
    "Anna Bruno Clara David Elena Felix Greta Hugo Irene Jonas Karla Leo Maria Nils Olga Peter "
    "Rosa Simon Teresa Viktor"
).split()
_SURNAMES = (
    "Adler Berg Castro Dahl Ekman Fisher Garcia Holm Ivanov Jansen Keller Lund Moreau Novak Olsen "
    "Parker Rossi Santos Toth Weber"
).split()
PLACES = (
    "Lisbon Oslo Vienna Prague Dublin Athens Madrid Warsaw Helsinki Zurich Naples Bergen Krakow "
    "Porto Geneva Tallinn"
).split() + ["New York", "Cape Town", "Buenos Aires", "San Marino"]
_STEMS = "Northwind Harbour Silver Alpine Meridian Orchard Summit Lantern Beacon Willow".split()
_TRADES = "Bank Motors Airlines University Press Hospital Energy Foods Insurance Railways".split()
_KINDS = {"person": "PER", "place": "LOC", "company": "ORG"}
_FRAMES = (
    "{person} flew to {place} on {day} .",
    "{company} opened a new office in {place} last {day} .",
    "The head of {company} , {person} , spoke to reporters in {place} .",
    "{person} left {company} after three years .",
    "On {day} {person} met {person_2} in {place} .",
    "{company} and {company_2} will work together , {person} said .",
    "It rained in {place} on {day} , and the match was put off .",
    "Nobody at {company} has heard from {person} since {day} .",
    "{person} was born in {place} and studies in {place_2} .",
    "Shares of {company} fell on {day} .",
)
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def entities() -> Iterator[dict[str, list[str]]]:
    """Yield `{"tokens", "tags"}`, the tags `O` and IOB2 of PER, LOC and ORG."""
    persons = [" ".join(names) for names in product(FIRST_NAMES, _SURNAMES)] + FIRST_NAMES
    companies = [" ".join(names) for names in product(_STEMS, _TRADES)]
    options = {"person": persons, "place": PLACES, "company": companies, "day": _DAYS}
    for seed, frame in enumerate(_FRAMES):
        words = frame.split()
        names = [word[1:-1] for word in words if word.startswith("{")]
        slots = {name: options[name.removesuffix("_2")] for name in names}
        for filling in fillings(slots, _SENTENCES_OF_FRAME, seed):
            if len(set(filling.values())) == len(filling):  # nobody meets himself
                yield _tagged(words, filling)


def _tagged(words: list[str], filling: dict[str, str]) -> dict[str, list[str]]:
    tokens: list[str] = []
    tags: list[str] = []
    for word in words:
        name = word.strip("{}")
        parts = filling.get(name, word).split()
        kind = _KINDS.get(name.removesuffix("_2"))
        tokens += parts
        tags += [f"{'I' if i else 'B'}-{kind}" if kind else "O" for i in range(len(parts))]
    return {"tokens": tokens, "tags": tags}
