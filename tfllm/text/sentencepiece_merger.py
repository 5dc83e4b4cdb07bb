"""Byte-pair merges as SentencePiece has them: of characters, and with unknown ones."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfllm.text.byte_pair_merger import BytePairMerger, _Symbols
from tfllm.text.sentencepiece_config import SentencePieceConfig
from tfllm.text.sentencepiece_pieces import Pieces
from tfllm.text.sentencepiece_text import shift_right

__all__ = ["SentencePieceMerger"]


class SentencePieceMerger(BytePairMerger):
    """Splits words into pieces by merges: `<string>[words]` → ids.

    It merges as `BytePairMerger` does, beginning with code points instead of bytes. Code points
    that the vocabulary doesn't have are unknown, and those in a row are one unknown piece.

    Args:
        config: what is asked; its model is BPE.
    """

    def __init__(self, config: SentencePieceConfig) -> None:
        """Build the tables."""
        ids = {text: i for i, (text, _) in enumerate(config.pieces)}
        pairs = [
            merge.split(" ") if isinstance(merge, str) else merge
            for merge in config.model["merges"]
        ]
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in pairs]
        super().__init__(
            merges=np.array(merges, np.int32).reshape(-1, 3),
            byte_ids=np.zeros(256, np.int32),
            vocabulary_size=len(ids),
            reach=max([len(left + right) for left, right in pairs], default=1),
        )
        self._unknown_id = config.unknown_id
        letters = {ord(text): i for text, i in ids.items() if len(text) == 1}
        self._letters = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(letters), tf.int64), tf.constant(list(letters.values()), tf.int32)
            ),
            default_value=self._unknown_id,
        )

    def split(self, words: tf.Tensor) -> Pieces:
        """Split `<string>[words]`, none of them empty."""
        decoded = tf.strings.unicode_decode(words, "UTF-8")
        ids = self._letters.lookup(tf.cast(decoded.flat_values, tf.int64))
        owners = tf.cast(decoded.value_rowids(), tf.int32)
        same = (ids == shift_right(ids, -1)) & (owners == shift_right(owners, -1))
        kept = tf.reshape(tf.where(~(same & (ids == self._unknown_id))), [-1])
        ids, owners = tf.gather(ids, kept), tf.gather(owners, kept)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(owners), owners, tf.size(words))
        index = tf.range(tf.size(ids))
        made = self._merge_all(
            _Symbols(ids, owners, index, self._rank_pairs(ids, owners, index)), counts
        )
        pieces = tf.reshape(tf.where(made >= 0), [-1])
        places = tf.cast(tf.gather(kept, pieces), tf.int32)
        owners = tf.gather(owners, pieces)
        begins = tf.gather(tf.cast(decoded.row_starts(), tf.int32), owners)
        nexts = tf.concat([places[1:], [tf.size(decoded.flat_values)]], 0)[: tf.size(places)]
        counts = tf.math.unsorted_segment_sum(tf.ones_like(owners), owners, tf.size(words))
        return Pieces(tf.gather(made, pieces), places - begins, nexts - 1 - begins, counts)
