"""What the installed `tokenizers` makes of each code point on the way to BERT's words.

TensorFlow's ICU and `tokenizers` follow different versions of Unicode, so `tokenizers` itself is
asked, once per process: how a code point is written after normalization, and which code points
are spaces and punctuation to BERT's pre-tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from tfllm.text.code_point_classes import PAGE_SIZE

__all__ = [
    "ADDED",
    "IDENTITY",
    "ISOLATED",
    "LETTER",
    "SPACE",
    "BertNormalization",
    "CharacterTable",
    "combining_order",
    "decompositions",
    "rewritings",
    "word_classes",
]

LETTER, ISOLATED, SPACE, ADDED = 0, 1, 2, 3
"""Goes with its neighbours; is a word by itself; is between words; is part of an added token."""
IDENTITY = -1
"""Stands in a table for the code point that was looked up."""
_CODE_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)
# A starter that nothing normalizes to but itself; it keeps answers apart.
_BETWEEN = "~"
# Of the highest and the lowest combining class.
_LAST, _FIRST = "\u0345", "\u0334"
# The time of one call grows faster than its text.
_PIECE = 2048


@dataclass(frozen=True)
class BertNormalization:
    """The settings of `BertNormalizer`."""

    clean_text: bool
    """Whether control characters are dropped and every kind of space is U+0020."""
    handle_chinese_chars: bool
    """Whether each Chinese character is a word."""
    strip_accents: bool
    """Whether text is decomposed and loses its nonspacing marks."""
    lowercase: bool


class CharacterTable(NamedTuple):
    """What each code point becomes: none, one or some code points, each with its class.

    The entry of `c` is `pages[page_of[c // 256], c % 256]`; entry `e` becomes
    `outputs[starts[e] : starts[e] + lengths[e]]`.
    """

    page_of: np.ndarray
    """`<int32>[4352]`."""
    pages: np.ndarray
    """`<int32>[pages, 256]`."""
    starts: np.ndarray
    """`<int32>[entries]`."""
    lengths: np.ndarray
    """`<int32>[entries]`."""
    outputs: np.ndarray
    """`<int32>[...]`: code points, or IDENTITY."""
    classes: np.ndarray
    """`<uint8>[...]`: LETTER, ISOLATED or SPACE of each output."""
    added: int
    """The entry of a code point of an added token: itself, of class ADDED."""

    def entries(self, code_points: np.ndarray) -> np.ndarray:
        """Return the entry of each code point."""
        return self.pages[self.page_of[code_points // PAGE_SIZE], code_points % PAGE_SIZE]

    def of(self, code_point: int) -> tuple[list[int], list[int]]:
        """Return what one code point becomes, and the classes."""
        entry = self.entries(np.array(code_point))
        place = slice(self.starts[entry], self.starts[entry] + self.lengths[entry])
        outputs = self.outputs[place]
        return np.where(outputs < 0, code_point, outputs).tolist(), self.classes[place].tolist()


class _Rewriting(NamedTuple):
    """What every code point becomes: `outputs[ends[c] - lengths[c] : ends[c]]`."""

    lengths: np.ndarray
    ends: np.ndarray
    outputs: np.ndarray


@cache
def rewritings(normalization: BertNormalization, *, chinese_in_spaces: bool) -> CharacterTable:
    """Return what each code point becomes by the whole normalization.

    Args:
        normalization: the settings.
        chinese_in_spaces: whether a Chinese character has the spaces around it that
            `handle_chinese_chars` puts there, or is of class ISOLATED, which splits words alike.
    """
    own_spaces = normalization.handle_chinese_chars and chinese_in_spaces
    normalizer = _normalizer(normalization, handle_chinese_chars=own_spaces)
    isolated = np.zeros(_CODE_POINTS, bool)
    if normalization.handle_chinese_chars and not chinese_in_spaces:
        isolated = _chinese()
    return _table(_ask(normalizer.normalize_str), isolated)


@cache
def decompositions(normalization: BertNormalization) -> CharacterTable:
    """Return what each code point becomes up to the decomposition, before marks are dropped."""
    settings = normalizers.BertNormalizer(
        clean_text=normalization.clean_text,
        handle_chinese_chars=normalization.handle_chinese_chars,
        strip_accents=False,
        lowercase=False,
    )
    normalizer = normalizers.Sequence([settings, normalizers.NFD()])
    return _table(_ask(normalizer.normalize_str), np.zeros(_CODE_POINTS, bool))


@cache
def word_classes() -> np.ndarray:
    """Return `<uint8>[1114112]`: LETTER, ISOLATED or SPACE, to BERT's pre-tokenizer."""
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    classes = np.empty(_CODE_POINTS, np.uint8)
    for begin in range(0, _CODE_POINTS, _PIECE):
        # A letter goes with the letters around it, so what remains alone is punctuation.
        asked = _interleaved(_askable()[begin : begin + _PIECE], "a")
        text = "a" + _text(asked)
        found = np.full(len(text), SPACE, np.uint8)
        for _, (first, end) in pre_tokenizer.pre_tokenize_str(text):
            found[first:end] = ISOLATED if end - first == 1 else LETTER
        classes[begin : begin + _PIECE] = found[1::2]
    return classes


@cache
def combining_order() -> np.ndarray:
    """Return `<uint8>[1114112]`: 0 of a starter, else 1, 2, … in the order of combining classes.

    Decomposed text is sorted by it between starters.
    """
    order = np.zeros(_CODE_POINTS, np.uint8)
    marks = _non_starters()
    if not marks:
        return order
    decompose = normalizers.NFD().normalize_str
    in_order = decompose("".join(marks))
    rank = 1
    order[ord(in_order[0])] = rank
    for mark, following in zip(in_order, in_order[1:], strict=False):
        rank += decompose(following + mark) != following + mark
        order[ord(following)] = rank
    return order


def _non_starters() -> list[str]:
    """Return what changes places with the mark of the last class, or of the first."""
    decompose = normalizers.NFD().normalize_str
    itself = _ask(decompose)
    whole = (itself.lengths == 1) & (itself.outputs[itself.ends - 1] == np.arange(_CODE_POINTS))
    whole[_SURROGATES] = False
    single = np.flatnonzero(whole)
    found: set[str] = set()
    for begin in range(0, single.size, PAGE_SIZE):
        part = single[begin : begin + PAGE_SIZE]
        text = _text(part)
        for asked in (_LAST + _LAST.join(text), _FIRST.join(text) + _FIRST):
            # Most pages hold none.
            if decompose(asked) != asked:
                found |= {c for c in text if decompose(_LAST + c) != _LAST + c}
                found |= {c for c in text if decompose(c + _FIRST) != c + _FIRST}
                break
    return sorted(found)


@cache
def _askable() -> np.ndarray:
    """Return every code point, with "a" for the surrogates, of which no text consists."""
    code_points = np.arange(_CODE_POINTS, dtype=np.uint32)
    code_points[_SURROGATES] = ord("a")
    return code_points


@cache
def _chinese() -> np.ndarray:
    """Say of every code point whether `handle_chinese_chars` puts spaces around it."""
    normalizer = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    return _ask(normalizer.normalize_str).lengths == 3


def _normalizer(
    normalization: BertNormalization, *, handle_chinese_chars: bool
) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=normalization.clean_text,
        handle_chinese_chars=handle_chinese_chars,
        strip_accents=normalization.strip_accents,
        lowercase=normalization.lowercase,
    )


def _interleaved(code_points: np.ndarray, character: str) -> np.ndarray:
    """Put a character behind each code point."""
    return np.stack([code_points, np.full_like(code_points, ord(character))], axis=1).reshape(-1)


def _text(code_points: np.ndarray) -> str:
    return code_points.astype("<u4").tobytes().decode("utf-32-le")


def _ask(normalize: Callable[[str], str]) -> _Rewriting:
    """Have every code point normalized by itself; surrogates stay what they are."""
    asked = _askable().copy()
    asked[ord(_BETWEEN)] = ord("a")
    lengths, outputs = [], []
    for begin in range(0, _CODE_POINTS, _PIECE):
        answer = normalize(_text(_interleaved(asked[begin : begin + _PIECE], _BETWEEN)))
        found = np.frombuffer(answer.encode("utf-32-le"), "<u4").astype(np.int32)
        ends = np.flatnonzero(found == ord(_BETWEEN))
        if ends.size != _PIECE:
            raise RuntimeError("tokenizers normalizes a character to U+007E: tell tfllm's authors.")
        lengths.append(np.diff(ends, prepend=-1) - 1)
        outputs.append(found[found != ord(_BETWEEN)])
    all_lengths = np.concatenate(lengths)
    result = _Rewriting(all_lengths, np.cumsum(all_lengths), np.concatenate(outputs))
    not_asked = np.flatnonzero(asked != np.arange(_CODE_POINTS))
    result.outputs[result.ends[not_asked] - 1] = not_asked
    return result


def _table(rewriting: _Rewriting, isolated: np.ndarray) -> CharacterTable:
    classes = word_classes()
    identity = rewriting.lengths == 1
    identity[identity] = rewriting.outputs[rewriting.ends[identity] - 1] == np.flatnonzero(identity)
    own = np.where(isolated, ISOLATED, classes)
    # The first entries, by class, are of code points that stay what they are.
    entries: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {
        ((IDENTITY,), (kind,)): kind for kind in (LETTER, ISOLATED, SPACE, ADDED)
    }
    entry_of = own.astype(np.int32)
    empty = entries.setdefault(((), ()), len(entries))
    entry_of[rewriting.lengths == 0] = empty
    for c in np.flatnonzero(~identity & (rewriting.lengths > 0)).tolist():
        end = rewriting.ends[c]
        outputs = rewriting.outputs[end - rewriting.lengths[c] : end]
        kinds = np.full(outputs.size, ISOLATED) if isolated[c] else classes[outputs]
        outputs = np.where(outputs == c, IDENTITY, outputs)
        key = (tuple(outputs.tolist()), tuple(kinds.tolist()))
        entry_of[c] = entries.setdefault(key, len(entries))
    return _paged(entry_of, list(entries))


def _paged(
    entry_of: np.ndarray, entries: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> CharacterTable:
    places: dict[bytes, int] = {}
    pages = (page.tobytes() for page in entry_of.reshape(-1, PAGE_SIZE))
    page_of = [places.setdefault(page, len(places)) for page in pages]
    lengths = np.array([len(outputs) for outputs, _ in entries], np.int32)
    return CharacterTable(
        page_of=np.array(page_of, np.int32),
        pages=np.frombuffer(b"".join(places), np.int32).reshape(-1, PAGE_SIZE),
        starts=(np.cumsum(lengths) - lengths).astype(np.int32),
        lengths=lengths,
        outputs=np.array([c for outputs, _ in entries for c in outputs], np.int32),
        classes=np.array([kind for _, kinds in entries for kind in kinds], np.uint8),
        added=ADDED,
    )
