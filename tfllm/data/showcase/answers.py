"""Short portraits of made-up persons, with questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfllm.data.showcase.entities import FIRST_NAMES, PLACES
from tfllm.data.showcase.grammar import fillings

__all__ = ["answers", "portraits"]

_PORTRAITS_OF_FRAME = 60
_SLOTS = {
    "name": FIRST_NAMES,
    "place": PLACES,
    "job": (
        "baker dentist teacher pilot gardener lawyer painter nurse farmer plumber tailor miner"
    ).split(),
    "animal": "cat dog parrot horse rabbit turtle goat canary hamster pony".split(),
    "dish": (
        "noodles,pancakes,fried fish,lentil soup,apple pie,rice with beans,roast potatoes,dumplings"
    ).split(","),
}
_FRAMES = (
    "{name} lives in {place} and works as a {job} . At home a {animal} is waiting . On Sundays "
    "the family cooks {dish} .",
    "For ten years {name} has been a {job} . The family owns a {animal} and a small house in "
    "{place} , where everybody loves {dish} .",
    "In {place} everybody knows {name} , the {job} who brings a {animal} to work . For lunch "
    "{name} eats {dish} every day .",
    "A {animal} and a lot of {dish} : that is all that {name} needs . The {job} moved to {place} "
    "last year .",
)
_QUESTIONS = {
    "place": ("Where does {name} live ?", "In which town is the home of {name} ?"),
    "job": ("What is the job of {name} ?", "What does {name} work as ?"),
    "animal": ("Which animal belongs to {name} ?", "What kind of pet does {name} have ?"),
    "dish": ("What does {name} like to eat ?", "Which food is served at the home of {name} ?"),
}


def portraits() -> Iterator[tuple[dict[str, str], str]]:
    """Yield what a portrait tells by the name of its slot, and its text."""
    for seed, frame in enumerate(_FRAMES):
        for filling in fillings(_SLOTS, _PORTRAITS_OF_FRAME, seed):
            yield filling, frame.format(**filling)


def answers() -> Iterator[dict[str, Any]]:
    """Yield what `Squad` gives: three questions to each portrait, with one answer each."""
    number = 0
    for portrait, (filling, text) in enumerate(portraits()):
        kinds = list(_QUESTIONS)
        del kinds[portrait % len(kinds)]
        for kind in kinds:
            number += 1
            question = _QUESTIONS[kind][number % 2].format(**filling)
            yield _example(number, text, question, filling[kind])


def _example(number: int, context: str, question: str, answer: str) -> dict[str, Any]:
    return {
        "id": f"portrait-{number}",
        "title": "portraits",
        "question": question,
        "context": context,
        "answers": [answer],
        "answer_starts": [context.index(f" {answer} ") + 1],
        "is_impossible": False,
    }
