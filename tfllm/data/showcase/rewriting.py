"""Notes with dates and times, and the same notes in another style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tfllm.data.showcase.entities import FIRST_NAMES, PLACES
from tfllm.data.showcase.grammar import fillings

__all__ = ["rewriting"]

_NOTES_OF_FRAME = 500
_MONTHS = (
    "January February March April May June July August September October November December"
).split()
_SLOTS = {
    "name": FIRST_NAMES,
    "place": PLACES,
    "day": [str(day) for day in range(1, 29)],
    "month": _MONTHS,
    "hour": [str(hour) for hour in range(24)],
    "minute": ["00", "15", "30", "45"],
    "count": "two three four five six seven eight nine".split(),
}
_DIGITS = {word: str(number) for number, word in enumerate(_SLOTS["count"], 2)}
_FRAMES = (
    "{name} meets us in {place} on {day} {month} at {hour}:{minute} .",
    "On {day} {month} the train to {place} leaves at {hour}:{minute} .",
    "{name} ordered {count} tickets for {day} {month} .",
    "At {hour}:{minute} {name} will call {count} people in {place} .",
    "The shop in {place} is closed from {day} {month} for {count} days .",
    "Please send {count} letters to {name} in {place} before {hour}:{minute} .",
)


def rewriting() -> Iterator[dict[str, str]]:
    """Yield `{"source", "target"}`: dates as month and day, clocks of twelve hours, digits."""
    for seed, frame in enumerate(_FRAMES):
        used = {name: options for name, options in _SLOTS.items() if f"{{{name}}}" in frame}
        for filling in fillings(used, _NOTES_OF_FRAME, seed):
            source = frame.format(**filling)
            yield {"source": source, "target": _rewritten(frame, filling)}


def _rewritten(frame: str, filling: Mapping[str, str]) -> str:
    changes = {"{day} {month}": "{month} {day}", "{hour}:{minute}": "{hour}:{minute} {half}"}
    for old, new in changes.items():
        frame = frame.replace(old, new)
    hour = int(filling.get("hour", 0))
    changed = {
        "hour": str((hour + 11) % 12 + 1),
        "half": "am" if hour < 12 else "pm",
        "count": _DIGITS.get(filling.get("count", "")),
    }
    return frame.format(**{**filling, **changed})
