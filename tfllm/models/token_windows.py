"""Logits of every token of documents of any length, in graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.text_features import TextFeatures
from tfllm.models.text_windows import cut, frame_of, in_chunks

__all__ = ["TokenWindows"]


class TokenWindows:
    """Cuts documents into windows; each token counts in the one where it has most around it."""

    def __init__(self, texts: TextFeatures, overlap: int | None = None) -> None:
        """Settle how long windows are.

        Args:
            texts: its preprocessor's `sequence_length` is a window's, special tokens included.
            overlap: tokens that a window repeats of the one before it; None for a quarter.

        Raises:
            InputError: if windows would not move on.
        """
        self._texts = texts
        self._frame = frame_of(texts.preprocess)
        self._room = texts.preprocess.sequence_length - self._frame.size
        self._overlap = self._room // 4 if overlap is None else overlap
        if not 0 <= self._overlap < self._room:
            raise InputError(
                f"overlap must be at least 0 and less than the {self._room} tokens that a window "
                f"has room for. Received: {overlap}"
            )

    def logits(
        self,
        forward: Callable[[dict[str, tf.Tensor]], tf.Tensor],
        ids: tf.RaggedTensor,
    ) -> tf.Tensor:
        """Compute `<float32>[tokens, classes]` of all documents' tokens, one after another.

        Args:
            forward: features → `<float32>[windows, width, classes]`.
            ids: `<int32>[documents, (tokens)]`, without special tokens.
        """
        windows = cut(
            ids,
            self._frame,
            sequence_length=self._texts.preprocess.sequence_length,
            overlap=self._overlap,
            pad_id=self._texts.pad_id,
        )
        features = self._texts.known(windows.features)
        logits = in_chunks(forward, features)
        return tf.gather_nd(logits, self._places(ids, windows.documents))

    def _places(self, ids: tf.RaggedTensor, documents: tf.Tensor) -> tf.Tensor:
        """Window of each token, and its place there: `<int32>[tokens, 2]`."""
        stride = self._room - self._overlap
        count = tf.cast(ids.nrows(), tf.int32)
        per_document = tf.math.unsorted_segment_sum(tf.ones_like(documents), documents, count)
        firsts = tf.cumsum(per_document, exclusive=True)
        rows = tf.cast(ids.value_rowids(), tf.int32)
        starts = tf.gather(tf.cast(ids.row_starts(), tf.int32), rows)
        place = tf.range(tf.size(rows)) - starts
        # Half of what two windows share belongs to each.
        window = tf.maximum(place - self._overlap // 2, 0) // stride
        window = tf.minimum(window, tf.gather(per_document, rows) - 1)
        column = len(self._frame.before) + place - window * stride
        return tf.stack([tf.gather(firsts, rows) + window, column], axis=1)
