"""Tokens of a corpus, kept so that no document is tokenized when somebody asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["ContextTokens", "DocumentTokens"]

# Ids, first bytes and bytes after the last: `<int32>[batch, (tokens)]` each.
ContextTokens = tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]

_TOGETHER = 1024


class DocumentTokens(tf.Module):
    """Ids and offsets of every document's tokens, as variables.

    They are in 16 bits where they fit: 6 bytes a token.
    """

    def __init__(self, tokenizer: Any, texts: tf.Variable) -> None:
        """Tokenize a corpus.

        Args:
            tokenizer: a `tfllm.text.Tokenizer`.
            texts: `<string>[documents]`.
        """
        super().__init__(name="document_tokens")
        lengths, columns = _tokenized(tokenizer, texts)
        splits = np.concatenate([[0], np.cumsum(lengths)])
        with tf.device("CPU"):
            self._splits = _constant(splits.astype(np.int64), "splits")
            self._columns = [
                _constant(_small(column), name)
                for column, name in zip(columns, ("ids", "starts", "ends"), strict=True)
            ]

    def of(self, places: tf.Tensor) -> ContextTokens:
        """Give the tokens of documents, `<int32>[batch]` of places: what the tokenizer would."""
        starts = tf.gather(self._splits, places)
        where = tf.ragged.range(starts, tf.gather(self._splits, places + 1))
        ids, first, end = (
            where.with_values(tf.cast(tf.gather(column, where.values), tf.int32))
            for column in self._columns
        )
        return ids, first, end


def _tokenized(tokenizer: Any, texts: tf.Variable) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tokens of each text, and all texts' ids, first bytes and bytes after the last."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize(part: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = tokenizer.tokenize_with_offsets(part)
        return found[0].row_lengths(), *(column.values for column in found)

    parts = [
        [array.numpy() for array in tokenize(texts[first : first + _TOGETHER])]
        for first in range(0, int(texts.shape[0]), _TOGETHER)
    ]
    lengths, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return lengths, columns


def _small(numbers: np.ndarray) -> np.ndarray:
    fits = numbers.max(initial=0) <= np.iinfo(np.uint16).max
    return numbers.astype(np.uint16 if fits else np.int32)


def _constant(values: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values, trainable=False, name=name)
