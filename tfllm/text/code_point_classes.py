"""Which code points are letters, numbers and spaces to the installed `tokenizers`.

TensorFlow's RE2 and `tokenizers`' regex engine follow different versions of Unicode and differ on
thousands of code points, so the classes are asked of `tokenizers` itself, once per process.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from tokenizers import Regex, pre_tokenizers

__all__ = ["LETTER", "NUMBER", "OTHER", "PAGE_SIZE", "SPACE", "CodePointPages", "code_point_pages"]

OTHER, LETTER, NUMBER, SPACE = 0, 1, 2, 3
PAGE_SIZE = 256
_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)


class CodePointPages(NamedTuple):
    """A table in two levels: the class of `c` is `pages[page_of[c // 256], c % 256]`.

    Most of Unicode's pages are alike, so this takes tens of kilobytes and not a megabyte.
    """

    page_of: np.ndarray
    """`<int32>[4352]`: each run of 256 code points → its page."""
    pages: np.ndarray
    """`<uint8>[pages, 256]`: the classes."""


@cache
def code_point_pages() -> CodePointPages:
    """Return the class of every code point: OTHER, LETTER, NUMBER or SPACE."""
    places: dict[bytes, int] = {}
    pages = (page.tobytes() for page in _classes().reshape(-1, PAGE_SIZE))
    page_of = [places.setdefault(page, len(places)) for page in pages]
    table = np.frombuffer(b"".join(places), np.uint8).reshape(-1, PAGE_SIZE)
    return CodePointPages(np.array(page_of, np.int32), table)


def _classes() -> np.ndarray:
    code_points = np.delete(np.arange(_CODE_POINTS, dtype="<u4"), _SURROGATES)
    text = code_points.tobytes().decode("utf-32-le")
    one_class_runs = pre_tokenizers.Split(
        Regex(r"\p{L}+|\p{N}+|\s+|[^\s\p{L}\p{N}]+"), behavior="isolated"
    )
    firsts, lengths = [], []
    # In pieces: the time of one call grows faster than its text.
    for begin in range(0, len(text), 2048):
        for piece, _ in one_class_runs.pre_tokenize_str(text[begin : begin + 2048]):
            firsts.append(piece[0])
            lengths.append(len(piece))
    classes = np.repeat(_classes_of(firsts), lengths)
    gap = np.full(len(_SURROGATES), OTHER, np.uint8)
    return np.concatenate([classes[: _SURROGATES.start], gap, classes[_SURROGATES.start :]])


def _classes_of(characters: list[str]) -> np.ndarray:
    classes = np.full(len(characters), OTHER, np.uint8)
    patterns = {LETTER: r"\p{L}", NUMBER: r"\p{N}", SPACE: r"\s"}
    for kind, pattern in patterns.items():
        members = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
        for _, (begin, end) in members.pre_tokenize_str("".join(characters)):
            classes[begin:end] = kind
    return classes
