"""The normalizers that SentencePiece tokenizers are made of, in graph."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache, partial
from itertools import groupby
from typing import Any

import numpy as np
import tensorflow as tf
from tokenizers import normalizers, pre_tokenizers

from tfllm.errors import InputError
from tfllm.text.sentencepiece_expansion import CodePointExpansion, expansions_of
from tfllm.text.sentencepiece_precompiled import PrecompiledNormalizer
from tfllm.text.sentencepiece_steps import replace_pairs, replace_runs, strip
from tfllm.text.sentencepiece_text import TracedText

__all__ = ["SentencePieceNormalizer", "is_space"]

_Step = Callable[[TracedText], TracedText]
# What these do to a code point doesn't depend on its neighbours. For NFKD, which sorts accents,
# that holds because StripAccents follows and removes every accent there is to sort.
_PLAIN = ("Lowercase", "NFKD", "StripAccents")
_TWO_OR_MORE_SPACES = {"Regex": " {2,}"}


class SentencePieceNormalizer(tf.Module):
    """Normalizes texts as `tokenizers` does, with the same alignments.

    It does any sequence of these: `Replace` of one character, of one character twice, or of two
    or more spaces, by one character; `NFKD` directly followed by `StripAccents`; `StripAccents`;
    `Lowercase`; `Precompiled`; `Strip`.

    Args:
        normalizer: the JSON of the normalizer, or None.

    Raises:
        InputError: the normalizer asks for something else.
    """

    def __init__(self, normalizer: dict[str, Any] | None) -> None:
        """Build the tables."""
        super().__init__(name="sentencepiece_normalizer")
        parts = _flat(normalizer)
        _check_order(parts)
        self._steps: list[_Step] = []
        for plain, group in groupby(parts, key=lambda part: part["type"] in _PLAIN):
            some = list(group)
            self._steps += [_table(some)] if plain else [_step(part) for part in some]

    def __call__(self, text: TracedText) -> TracedText:
        """Normalize each segment of `text`."""
        for step in self._steps:
            text = step(text)
        return text


def is_space(code_points: tf.Tensor) -> tf.Tensor:
    """Return `<bool>[n]`: what `tokenizers`' `Strip` and `WhitespaceSplit` take for a space."""
    member = np.zeros(0x10000, bool)
    member[_spaces()] = True
    return tf.gather(tf.constant(member), tf.minimum(code_points, len(member) - 1))


@cache
def _spaces() -> list[int]:
    split = pre_tokenizers.WhitespaceSplit().pre_tokenize_str
    characters = [chr(c) for c in range(0x10000) if not 0xD800 <= c < 0xE000]
    words = "".join(word for word, _ in split("".join(characters)))
    return [ord(c) for c in set(characters) - set(words)]


def _flat(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [inner for outer in part["normalizers"] for inner in _flat(outer)]


def _check_order(parts: list[dict[str, Any]]) -> None:
    kinds = [part["type"] for part in parts]
    for kind, following in zip(kinds, [*kinds, None][1:], strict=True):
        if kind == "NFKD" and following != "StripAccents":
            raise InputError(
                "The normalizer NFKD is supported only directly before StripAccents. Received:"
                f" {following!r} after it. Put StripAccents there."
            )


def _table(parts: list[dict[str, Any]]) -> _Step:
    return CodePointExpansion(_expansions(json.dumps(parts)))


@cache
def _expansions(parts: str) -> dict[int, str]:
    kinds = [getattr(normalizers, part["type"])() for part in json.loads(parts)]
    return expansions_of(kinds)


def _step(part: dict[str, Any]) -> _Step:
    kind = part["type"]
    if kind == "Precompiled":
        return PrecompiledNormalizer(base64.b64decode(part["precompiled_charsmap"]))
    if kind == "Strip":
        return partial(_strip, left=part["strip_left"], right=part["strip_right"])
    if kind == "Replace":
        return _replacement(part["pattern"], part["content"])
    raise InputError(
        f"The normalizer {kind!r} is not supported with SentencePiece. Supported: Lowercase, NFKD"
        " before StripAccents, Precompiled, Replace, Strip, StripAccents."
    )


def _replacement(pattern: dict[str, str], content: str) -> _Step:
    text = pattern.get("String", "")
    if len(content) == 1:
        if pattern == _TWO_OR_MORE_SPACES:
            return partial(replace_runs, code_point=ord(" "), content=ord(content))
        if len(text) == 1:
            return CodePointExpansion({ord(text): content})
        if len(text) == 2 and text[0] == text[1]:
            return partial(replace_pairs, code_point=ord(text[0]), content=ord(content))
    raise InputError(
        f"The normalizer Replace of {pattern} by {content!r} is not supported. Supported: one"
        " character, one character twice, or ' {2,}', by one character."
    )


def _strip(text: TracedText, *, left: bool, right: bool) -> TracedText:
    return strip(text, is_space(text.code_points), left=left, right=right)
