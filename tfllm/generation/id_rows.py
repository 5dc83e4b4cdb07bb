"""Rows of ids, however they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["id_rows"]


def id_rows(ids: Any) -> tf.RaggedTensor:
    """Make a ragged tensor of lists, of a dense tensor or array, or of a ragged tensor.

    Args:
        ids: `[rows, (ids)]`; a flat `[ids]` is one row, an empty list is no row.

    Returns:
        `<int32>[rows, (ids)]`, with row splits in int64.

    Example:
        [[5], [6, 7]] and [[5, 0], [6, 7]] as they are; [5, 6] → [[5, 6]].
    """
    if isinstance(ids, tf.RaggedTensor):
        return tf.cast(ids.with_row_splits_dtype(tf.int64), tf.int32)
    if tf.is_tensor(ids) or isinstance(ids, np.ndarray):
        ids = tf.cast(ids, tf.int32)
        ids = ids[None] if ids.shape.rank == 1 else ids
        # `from_tensor` of no rows can't be turned back into a tensor.
        rows, width = tf.unstack(tf.shape(ids, tf.int64))
        return tf.RaggedTensor.from_row_lengths(
            tf.reshape(ids, [-1]), tf.fill([rows], width), validate=False
        )
    rows = list(ids)
    if rows and not hasattr(rows[0], "__len__"):
        rows = [rows]
    return tf.ragged.constant([list(row) for row in rows], tf.int32, ragged_rank=1)
