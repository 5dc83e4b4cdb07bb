"""A growing text, given piece by piece as soon as a piece is sure."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

__all__ = ["TextPieces"]


class TextPieces:
    """Turns the bytes of tokens into pieces of text that together are the whole text.

    A character whose bytes have not all come is held back, and so is what may be the beginning of
    a stop string. From the stop string on nothing is given.

    Example:
        >>> pieces = TextPieces(["##"])
        >>> pieces.add("é#".encode()[:1]), pieces.add("é#".encode()[1:]), pieces.end()
        ('', 'é', '#')
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        """Begin an empty text.

        Args:
            stops: texts at which it ends; an empty one ends nothing.
        """
        self._stops = [stop.encode() for stop in stops if stop]
        self._bytes = b""  # that have not been given

    def add(self, new: bytes) -> str:
        """Add the bytes of a token and return what is sure now, maybe nothing."""
        self._bytes += new
        if self._cut() is not None:
            return ""  # `end` gives what is left
        held = max((_begun(self._bytes, stop) for stop in self._stops), default=0)
        return self._give(_whole_characters(self._bytes[: len(self._bytes) - held]))

    def end(self) -> str:
        """Return the rest, up to a stop string."""
        cut = self._cut()
        return self._give(len(self._bytes) if cut is None else cut)

    def _cut(self) -> int | None:
        """Where the stop string begins that is completed first; of several the longest."""
        found = [(at + len(s), -len(s)) for s in self._stops if (at := self._bytes.find(s)) >= 0]
        return sum(min(found)) if found else None

    def _give(self, size: int) -> str:
        piece, self._bytes = self._bytes[:size], self._bytes[size:]
        try:
            return piece.decode()
        except UnicodeDecodeError:
            # As tokenizers do it: how many U+FFFD stand for what is no UTF-8 is a matter of taste.
            return tf.strings.unicode_transcode(piece, "UTF-8", "UTF-8").numpy().decode()


def _begun(text: bytes, stop: bytes) -> int:
    """How many bytes at the end of the text may be the beginning of a stop string."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


def _whole_characters(text: bytes) -> int:
    """How many bytes there are before a character of which bytes may be missing."""
    for back in range(1, min(4, len(text)) + 1):
        lead = text[-back]
        if lead & 0xC0 == 0x80:  # continues a character
            continue
        needed = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
        return len(text) - back if needed > back else len(text)
    return len(text)
