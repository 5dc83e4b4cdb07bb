"""Splitting words into the longest pieces that a vocabulary has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_text

from tfllm.text.wordpiece_config import WordPieceConfig

__all__ = ["WordPieceMatcher", "WordPieces", "vocabulary_list"]

_BYTES_PER_CHARACTER = 4
_MOST_BYTES = 2**30


class WordPieces(NamedTuple):
    """The tokens of all words, one after another."""

    ids: tf.Tensor
    """`<int32>[tokens]`."""
    counts: tf.Tensor
    """`<int32>[words]`: how many tokens each word has; one at least."""
    starts: tf.Tensor
    """`<int32>[tokens]`: where in its word each starts, in bytes."""
    ends: tf.Tensor
    """`<int32>[tokens]`: and where it ends."""


class WordPieceMatcher(tf.Module):
    """Splits words by the vocabulary, the longest piece first.

    A word that can't be split is one unknown token. This is TF Text's `FastWordpieceTokenizer`
    without its own split into words: that needs no character classes.

    Args:
        config: the vocabulary and its settings.
    """

    def __init__(self, config: WordPieceConfig) -> None:
        """Build the matcher."""
        super().__init__(name="wordpiece_matcher")
        self._matcher = tensorflow_text.FastWordpieceTokenizer(
            # No word has a space or U+0000, so what has one is out of reach.
            vocabulary_list(config, hole=" ", reachable=lambda token: "\x00" not in token),
            suffix_indicator=config.continuing_subword_prefix,
            # The caller knows which words are too long, in characters.
            max_bytes_per_word=min(
                _BYTES_PER_CHARACTER * config.max_input_chars_per_word, _MOST_BYTES
            ),
            token_out_type=tf.int32,
            unknown_token=config.unk_token,
            no_pretokenization=True,
        )
        self._unknown = config.unk_token

    def __call__(self, words: tf.Tensor, whole: tf.Tensor) -> WordPieces:
        """Split them.

        Args:
            words: `<string>[words]`, none of them empty.
            whole: `<bool>[words]`: words that are one unknown token whatever they are.
        """
        # The unknown token, written as a word, is itself.
        asked = tf.where(whole, self._unknown, words)
        ids, starts, ends = self._matcher.tokenize_with_offsets(asked)
        counts = tf.cast(ids.row_lengths(), tf.int32)
        of_words = ids.value_rowids()
        lengths = tf.gather(tf.strings.length(words), of_words)
        return WordPieces(
            ids=ids.values,
            counts=counts,
            starts=tf.cast(starts.values, tf.int32),
            ends=tf.where(tf.gather(whole, of_words), lengths, tf.cast(ends.values, tf.int32)),
        )


def vocabulary_list(
    config: WordPieceConfig, *, hole: str, reachable: Callable[[str], bool]
) -> list[str]:
    """Return the token of each id, and something unique where there is none to be reached.

    Args:
        config: the vocabulary.
        hole: how what stands for no token starts.
        reachable: whether texts can have the token at all.
    """
    tokens = [f"{hole}{i}" for i in range(config.vocabulary_size)]
    for token, token_id in config.vocabulary.items():
        if token and (token == config.unk_token or reachable(token)):
            tokens[token_id] = token
    return tokens
