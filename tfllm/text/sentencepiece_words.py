"""From texts to the words that SentencePiece models split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import tensorflow as tf
import tokenizers

from tfllm.errors import InputError
from tfllm.text.added_token import AddedToken
from tfllm.text.added_token_finder import AddedTokenFinder, Found
from tfllm.text.byte_level_words import classify
from tfllm.text.sentencepiece_config import SPACE_SIGN, SentencePieceConfig
from tfllm.text.sentencepiece_normalizer import SentencePieceNormalizer, is_space
from tfllm.text.sentencepiece_text import TracedText, shift_right

__all__ = ["SentencePieceWords", "Words"]

# Stands for an added token while its surroundings are normalized. It is no character, and no
# normalizer that there is changes it.
_PLACEHOLDER = 0x10FFFF


class Words(NamedTuple):
    """The words of all texts, one after another."""

    texts: tf.Tensor
    """`<string>[words]`."""
    added_ids: tf.Tensor
    """`<int32>[words]`: id of the added token that it is, or -1."""
    rows: tf.Tensor
    """`<int32>[words]`."""
    begins: tf.Tensor
    """`<int32>[words]`: its first code point, among those of all words."""
    first_bytes: tf.Tensor
    """`<int32>[code points]`: where what each comes from starts in its row."""
    end_bytes: tf.Tensor
    """`<int32>[code points]`: where that ends."""


class _Characters(NamedTuple):
    """Code points of all texts, one after another; `<int32>[n]` each."""

    code_points: tf.Tensor
    first_bytes: tf.Tensor
    end_bytes: tf.Tensor
    rows: tf.Tensor
    segments: tf.Tensor
    """Number of the stretch between added tokens; one of these is a stretch too."""
    added_ids: tf.Tensor

    def take(self, index: tf.Tensor) -> _Characters:
        return _Characters(*[tf.gather(values, index) for values in self])


class SentencePieceWords(tf.Module):
    """Finds added tokens, normalizes what is between them, and splits that into words.

    Args:
        config: what is asked.
        fast: Hugging Face's view of the same tokenizer.
        special_too: whether special tokens are found, or are plain text.

    Raises:
        InputError: the normalizer isn't done in graph, or doesn't go with the added tokens.
    """

    def __init__(
        self, config: SentencePieceConfig, fast: tokenizers.Tokenizer, *, special_too: bool
    ) -> None:
        """Build the tables."""
        super().__init__(name="sentencepiece_words")
        self._config = config
        self._normalizer = SentencePieceNormalizer(config.normalizer)
        verbatim = [token for token in config.added_tokens if not token.normalized]
        others = [token for token in config.added_tokens if token.normalized]
        if fast.normalizer is not None:
            others = _normalized(others, fast.normalizer.normalize_str)
        self._verbatim = AddedTokenFinder(verbatim, special_too=special_too)
        self._normalized = AddedTokenFinder(others, special_too=special_too) if others else None

    def __call__(self, texts: tf.Tensor) -> Words:
        """Turn `<string>[batch]` of UTF-8 into words."""
        characters = _with_found(_characters(texts), self._verbatim)
        text = TracedText(
            characters.code_points, tf.range(tf.size(characters.rows)), characters.segments
        )
        text = self._normalizer(text)
        characters = characters.take(text.origins)._replace(code_points=text.code_points)
        if self._normalized is not None:
            characters = _with_found(characters, self._normalized)
        if self._config.splits_whitespace:
            characters = _split_at_spaces(characters)
        return self._words(characters)

    def _words(self, characters: _Characters) -> Words:
        """Write signs for spaces, put prefixes in, and split."""
        sign = ord(SPACE_SIGN)
        is_added = characters.added_ids >= 0
        signed = tf.where(characters.code_points == ord(" "), sign, characters.code_points)
        text = TracedText(signed, tf.range(tf.size(signed)), characters.segments)
        needs = text.starts() & (signed != sign) & ~is_added
        if self._config.prefix == "first":
            needs &= characters.first_bytes == 0
        if self._config.prefix != "never":
            text = text.prepended(sign, needs)
        starts = text.starts()
        if self._config.splits_words:
            starts |= text.code_points == sign
        begins = tf.cast(tf.reshape(tf.where(starts), [-1]), tf.int32)
        firsts = tf.gather(text.origins, begins)
        ragged = tf.RaggedTensor.from_row_starts(text.code_points, begins, validate=False)
        return Words(
            texts=tf.strings.unicode_encode(ragged, "UTF-8"),
            added_ids=tf.gather(characters.added_ids, firsts),
            rows=tf.gather(characters.rows, firsts),
            begins=begins,
            first_bytes=tf.gather(characters.first_bytes, text.origins),
            end_bytes=tf.gather(characters.end_bytes, text.origins),
        )


def _normalized(tokens: list[AddedToken], normalize: Callable[[str], str]) -> list[AddedToken]:
    """Return the tokens as they are looked for, in normalized text."""
    found = [replace(token, content=normalize(token.content)) for token in tokens]
    contents = [token.content for token in found]
    for token, content in zip(tokens, contents, strict=True):
        if not content or contents.count(content) > 1:
            raise InputError(
                f"The added token {token.content!r} is {content!r} when normalized, which is"
                " nothing or another's text too: set its `normalized` to false."
            )
    return found


def _characters(texts: tf.Tensor) -> _Characters:
    decoded, offsets = tf.strings.unicode_decode_with_offsets(texts, "UTF-8")
    rows = tf.cast(decoded.value_rowids(), tf.int32)
    firsts = tf.cast(offsets.flat_values, tf.int32)
    nexts = tf.concat([firsts[1:], [0]], 0)[: tf.size(firsts)]
    next_rows = tf.concat([rows[1:], [-1]], 0)[: tf.size(rows)]
    return _Characters(
        code_points=decoded.flat_values,
        first_bytes=firsts,
        end_bytes=tf.where(rows == next_rows, nexts, tf.gather(tf.strings.length(texts), rows)),
        rows=rows,
        segments=rows,
        added_ids=tf.fill([tf.size(rows)], -1),
    )


def _with_found(characters: _Characters, finder: AddedTokenFinder) -> _Characters:
    """Put a placeholder in the place of each added token, in a segment of its own."""
    code_points = characters.code_points
    starts = characters.segments != shift_right(characters.segments, -1)
    found = finder(code_points, classify(code_points), starts)
    return tf.cond(
        tf.reduce_any(found.within),
        lambda: _replaced(characters, found),
        lambda: characters,
    )


def _replaced(characters: _Characters, found: Found) -> _Characters:
    here = found.ids >= 0
    segments = tf.cumsum(tf.cast(found.segment_starts, tf.int32)) - 1
    begins = tf.cast(tf.reshape(tf.where(found.segment_starts), [-1]), tf.int32)
    lasts = tf.concat([begins[1:], [tf.size(segments)]], 0) - 1
    segment_ends = tf.gather(characters.end_bytes, tf.gather(lasts, segments))
    characters = characters._replace(
        code_points=tf.where(here, _PLACEHOLDER, characters.code_points),
        end_bytes=tf.where(here, segment_ends, characters.end_bytes),
        segments=segments,
        added_ids=tf.where(here, found.ids, characters.added_ids),
    )
    return characters.take(tf.reshape(tf.where(here | ~found.within), [-1]))


def _split_at_spaces(characters: _Characters) -> _Characters:
    spaces = is_space(characters.code_points)
    starts = characters.segments != shift_right(characters.segments, -1)
    starts |= shift_right(spaces, False)
    characters = characters._replace(segments=tf.cumsum(tf.cast(starts, tf.int32)) - 1)
    return characters.take(tf.reshape(tf.where(~spaces), [-1]))
