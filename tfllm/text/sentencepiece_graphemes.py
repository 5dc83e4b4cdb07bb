"""Where graphemes start, as the installed `tokenizers` sees it.

A grapheme is what Unicode's annex 29 calls an extended grapheme cluster: a letter and its combining
marks, a Hangul syllable, an emoji of several parts. `tokenizers` looks at graphemes in one place
only, the normalizer `Precompiled`, and there at those of up to five bytes. So two regional
indicators, which are eight, are never asked about: they may count as two graphemes here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import tensorflow as tf
from tokenizers import normalizers

from tfllm.text.sentencepiece_charsmap import pack_charsmap
from tfllm.text.sentencepiece_pages import CODE_POINTS, CodePointPages
from tfllm.text.sentencepiece_text import TracedText, shift_right

__all__ = ["grapheme_starts"]

# Ideographs, Hangul syllables, surrogates, private use, and the planes that hold only such or
# nothing: of these, only syllables ever join another, and they follow a rule.
_PLAIN = (
    range(0x3400, 0xA000),
    range(0xAC00, 0xD7A4),
    range(0xD800, 0xF900),
    range(0x20000, 0xE0000),
    range(0xE1000, 0x110000),
)
_HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
_HANGUL_TRAILS = 28
_JOINER = 0x200D
_AT_ONCE = 512

# What a code point can be; the names are annex 29's.
_CONTROL, _EXTEND, _MARK, _PREPEND, _PICTOGRAPH = 1, 2, 4, 8, 16
_LEAD, _VOWEL, _TRAIL, _LEAD_VOWEL, _LEAD_VOWEL_TRAIL = 32, 64, 128, 256, 512
_CONSONANT, _LINKER, _CONJUNCT_EXTEND = 1024, 2048, 4096


def grapheme_starts(text: TracedText) -> tf.Tensor:
    """Return `<bool>[n]`: whether a grapheme starts here; one always does at a segment's start."""
    classes = _classes().of(text.code_points)
    starts = text.starts()
    is_feed = (text.code_points == ord("\n")) & (shift_right(text.code_points, 0) == ord("\r"))
    joining = classes & ~(_CONTROL | _PICTOGRAPH) > 0
    joins = tf.cond(
        tf.reduce_any(joining),
        lambda: _joins(text.code_points, classes, starts),
        lambda: tf.zeros_like(starts),
    )
    return starts | ~(joins | is_feed)


def _joins(code_points: tf.Tensor, classes: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """Return `<bool>[n]`: whether each belongs to the grapheme of its predecessor."""
    before = shift_right(classes, 0)
    marks = _is(classes, _EXTEND | _MARK)
    hangul = _is(before, _LEAD) & _is(classes, _LEAD | _VOWEL | _LEAD_VOWEL | _LEAD_VOWEL_TRAIL)
    hangul |= _is(before, _LEAD_VOWEL | _VOWEL) & _is(classes, _VOWEL | _TRAIL)
    hangul |= _is(before, _LEAD_VOWEL_TRAIL | _TRAIL) & _is(classes, _TRAIL)
    joined_picture = _is(classes, _PICTOGRAPH) & _behind_joined_picture(
        code_points, classes, starts
    )
    conjunct = _is(classes, _CONSONANT) & _behind_linked_consonant(classes, starts)
    either_control = _is(classes, _CONTROL) | _is(before, _CONTROL)
    joins = marks | hangul | _is(before, _PREPEND) | joined_picture | conjunct
    return joins & ~either_control


def _behind_joined_picture(
    code_points: tf.Tensor, classes: tf.Tensor, starts: tf.Tensor
) -> tf.Tensor:
    """Return `<bool>[n]`: behind a pictograph, any number of extenders, and a joiner."""
    joiner = code_points == _JOINER
    extends = _is(classes, _EXTEND) & ~joiner & ~starts
    pictured = _carried(_is(classes, _PICTOGRAPH), extends)
    return shift_right(joiner & ~starts & shift_right(pictured, False), False)


def _behind_linked_consonant(classes: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """Return `<bool>[n]`: behind a consonant and what links the next one to it."""
    linkers = _is(classes, _LINKER) & ~starts
    extends = (_is(classes, _CONJUNCT_EXTEND) & ~starts) | linkers
    consonant = _carried(_is(classes, _CONSONANT), extends)
    linked = consonant & extends & _carried(linkers, extends & ~linkers)
    return shift_right(linked, False)


def _carried(values: tf.Tensor, over: tf.Tensor) -> tf.Tensor:
    """Return `<bool>[n]`: each one's value, or that of what stands before its run of `over`.

    The first one may not be `over`.
    """
    return tf.gather(tf.boolean_mask(values, ~over), tf.cumsum(tf.cast(~over, tf.int32)) - 1)


def _is(classes: tf.Tensor, kinds: int) -> tf.Tensor:
    return classes & kinds > 0


# -------------------------------------------------------------------- asking tokenizers

# A grapheme of five bytes or less is replaced as a whole if it starts with a key. So of "a" with a
# mark, as the last of a text, the mark is left over only if the grapheme had started earlier.
_MARK_2_BYTES = "\u0301"
_KEYS = {
    "letter": "a",
    "mark": "\u0340",
    "pictograph": "\u00a9",
    "lead": "\u1100",
    "vowel": "\u1161",
    "trail": "\u11a8",
    "consonant": "\u0915",
}
_LINKER_SIGN = "\u094d"


@cache
def _classes() -> CodePointPages:
    asked = np.ones(CODE_POINTS, bool)
    for plain in _PLAIN:
        asked[plain.start : plain.stop] = False
    asked[[ord("\r"), ord("\n")]] = False
    characters = [chr(c) for c in np.flatnonzero(asked)]
    classes = np.zeros(CODE_POINTS, np.int32)
    classes[asked] = _classes_of(characters)
    classes[[ord("\r"), ord("\n")]] = _CONTROL
    syllables = np.arange(_HANGUL_SYLLABLES.start, _HANGUL_SYLLABLES.stop)
    alone = (syllables - _HANGUL_SYLLABLES.start) % _HANGUL_TRAILS == 0
    classes[syllables] = np.where(alone, _LEAD_VOWEL, _LEAD_VOWEL_TRAIL)
    return CodePointPages(classes)


def _classes_of(characters: list[str]) -> np.ndarray:
    marks = _swallowed_by("a", characters)
    prepends = _joined(characters, "letter")
    extends = marks & _joined(characters, "pictograph", head=_KEYS["pictograph"], infix="\u200d")
    linkers = marks & _joined(characters, "consonant", head=_KEYS["consonant"])
    conjunct = marks & _joined(characters, "consonant", head=_KEYS["consonant"], infix=_LINKER_SIGN)
    leads = _joined(characters, "lead") & ~prepends
    vowels = _joined(characters, "vowel") & ~prepends & ~leads
    members = {
        _CONTROL: ~_joined(characters, "mark"),
        _MARK: marks & ~extends,
        _EXTEND: extends,
        _PREPEND: prepends,
        _PICTOGRAPH: _joined(characters, "pictograph", infix="\u200d"),
        _LEAD: leads,
        _VOWEL: vowels,
        _TRAIL: _joined(characters, "trail") & ~prepends & ~vowels,
        _CONSONANT: _joined(characters, "consonant", infix=_LINKER_SIGN),
        _LINKER: linkers,
        _CONJUNCT_EXTEND: conjunct & ~linkers,
    }
    return sum(kind * found.astype(np.int32) for kind, found in members.items())


def _swallowed_by(letter: str, characters: list[str]) -> np.ndarray:
    """Return whether each is a part of the grapheme that `letter` before it starts."""
    normalizer = normalizers.Precompiled(pack_charsmap({letter: "X"}))
    return np.array([line == "X" for line in _normalized(normalizer, letter, characters, "")])


def _joined(characters: list[str], key: str, *, head: str = "", infix: str = "") -> np.ndarray:
    """Return whether no grapheme starts at the key in `head`, character, `infix`, key."""
    normalizer = normalizers.Precompiled(pack_charsmap({_KEYS[key]: "X"}))
    tail = infix + _KEYS[key] + _MARK_2_BYTES
    lines = _normalized(normalizer, head, characters, tail)
    return np.array([not line.endswith("X") for line in lines])


def _normalized(
    normalizer: normalizers.Normalizer, head: str, characters: list[str], tail: str
) -> list[str]:
    text = "\n".join(head + character + tail for character in characters)
    return normalizer.normalize_str(text).split("\n")
