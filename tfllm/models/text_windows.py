"""Documents that are longer than a backbone, cut into windows that overlap, in graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfllm.models.text_features import example_row

__all__ = ["Frame", "Windows", "cut", "frame_of", "in_chunks", "in_order_of_length", "repeated"]

# Windows that are in memory together, of however many documents.
_ROWS_TOGETHER = 16
# Of like rows it is few: no padding, and each half of a layer still has one.
_LIKE_ROWS_TOGETHER = 2


class Frame(NamedTuple):
    """The special tokens that stand around a text; each column is `<int32>[tokens, 2]`.

    A token's two numbers are its id and its token type.
    """

    before: np.ndarray
    after: np.ndarray
    token_type: int
    """Of the text itself."""

    @property
    def size(self) -> int:
        """How many special tokens a row has."""
        return len(self.before) + len(self.after)


class Windows(NamedTuple):
    """Windows of all documents, one after another.

    Attributes:
        features: `input_ids`, `attention_mask` and `token_type_ids`, `<int32>[windows, width]`.
        documents: `<int32>[windows]`, the row that each was cut from; each row has one at least.
        tokens: `<float32>[windows]`, how many tokens of the text it holds, and at least 1.
    """

    features: dict[str, tf.Tensor]
    documents: tf.Tensor
    tokens: tf.Tensor


def frame_of(preprocess: Any) -> Frame:
    """Find out which special tokens a `tfllm.text.Preprocessor` puts around a text.

    It is asked once, in Python, for an example.
    """
    row = example_row(preprocess)
    columns = np.stack([row.input_ids, row.token_types], axis=1)
    (places,) = np.nonzero(row.is_text)
    return Frame(columns[: places[0]], columns[places[-1] + 1 :], int(columns[places[0], 1]))


def cut(
    ids: tf.RaggedTensor, frame: Frame, *, sequence_length: int, overlap: int, pad_id: int
) -> Windows:
    """Cut rows of tokens into windows, each between its special tokens.

    Every window but a document's last is full. A text that fits is one window, and so is an
    empty one.

    Args:
        ids: `<int32>[batch, (tokens)]`, without special tokens.
        frame: what stands around them.
        sequence_length: of a window, special tokens included.
        overlap: tokens that a window repeats of the one before it.
        pad_id: fills up the windows on the right.

    Example:
        Tokens 1 to 7, room for 4 beside the special tokens, overlap 2 → 1234, 3456, 567.
    """
    room = sequence_length - frame.size
    stride = room - overlap
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    counts = 1 + (tf.maximum(lengths - room, 0) + stride - 1) // stride
    documents = tf.repeat(tf.range(tf.size(counts)), counts)
    of_document = tf.range(tf.size(documents)) - tf.gather(
        tf.cumsum(counts, exclusive=True), documents
    )
    starts = tf.gather(tf.cast(ids.row_starts(), tf.int32), documents) + of_document * stride
    ends = tf.minimum(starts + room, tf.gather(tf.cast(ids.row_limits(), tf.int32), documents))
    texts = tf.gather(ids.values, tf.ragged.range(starts, ends))
    return Windows(
        _framed(texts, frame, pad_id),
        documents,
        tf.cast(tf.maximum(ends - starts, 1), tf.float32),
    )


def _framed(texts: tf.RaggedTensor, frame: Frame, pad_id: int) -> dict[str, tf.Tensor]:
    """Put the special tokens around `<int32>[windows, (tokens)]`, and pad."""
    count = texts.nrows()
    types = tf.fill(tf.shape(texts.values), frame.token_type)
    pieces = [
        repeated(frame.before, count),
        texts.with_values(tf.stack([texts.values, types], axis=1)),
        repeated(frame.after, count),
    ]
    rows = tf.concat(pieces, axis=1)
    input_ids, token_types = tf.unstack(rows.to_tensor(-1), axis=-1)
    real = input_ids >= 0
    return {
        "input_ids": tf.where(real, input_ids, pad_id),
        "attention_mask": tf.cast(real, tf.int32),
        "token_type_ids": tf.where(real, token_types, 0),
    }


def repeated(tokens: np.ndarray, count: tf.Tensor) -> tf.RaggedTensor:
    """Give each of `count` rows the same tokens.

    Args:
        tokens: `<int32>[tokens, columns]`.
        count: `<int>[]`.

    Returns:
        `<int32>[count, (tokens), columns]`.
    """
    values = tf.tile(tf.constant(tokens, tf.int32), [count, 1])
    return tf.RaggedTensor.from_uniform_row_length(values, len(tokens), count)


def in_chunks(
    compute: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    features: dict[str, tf.Tensor],
    *,
    columns: int | None = None,
    rows_per_chunk: int = _ROWS_TOGETHER,
) -> tf.Tensor:
    """Compute `[rows, …]` of features a few rows at a time, so that memory has a bound.

    Args:
        compute: features of some rows → `<float32>[rows, …]`, all but the first size known.
        features: `[rows, width]` each.
        columns: of a result `[rows, columns]`; None for another shape.
        rows_per_chunk: rows computed together.
    """
    rows = tf.shape(features["input_ids"])[0]
    chunks = (rows + rows_per_chunk - 1) // rows_per_chunk
    # Of no rows the result's shape is said here, or by a chunk without rows.
    shape = None if columns is None else tf.TensorShape([None, columns])
    chunks = tf.maximum(chunks, 1) if columns is None else chunks
    results = tf.TensorArray(tf.float32, size=chunks, infer_shape=False, element_shape=shape)

    def next_chunk(i: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        span = slice(i * rows_per_chunk, (i + 1) * rows_per_chunk)
        part = {name: values[span] for name, values in features.items()}
        return i + 1, results.write(i, compute(part))

    _, results = tf.while_loop(
        lambda i, _: i < chunks, next_chunk, (tf.constant(0), results), parallel_iterations=1
    )
    return results.concat()


def in_order_of_length(
    compute: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    features: dict[str, tf.Tensor],
    *,
    columns: int,
    rows_per_chunk: int = _LIKE_ROWS_TOGETHER,
) -> tf.Tensor:
    """Compute `[rows, columns]` with rows of like length together, each chunk just wide enough.

    Args:
        compute: features of some rows → `<float32>[rows, columns]`, the same for a row however
            much padding stands on its right.
        features: `[rows, width]` each, padded on the right; `attention_mask` says where.
        columns: of the result.
        rows_per_chunk: rows computed together.
    """
    lengths = tf.reduce_sum(features["attention_mask"], axis=1)
    order = tf.argsort(lengths, stable=True)
    ordered = {name: tf.gather(values, order) for name, values in features.items()}

    def narrow(part: dict[str, tf.Tensor]) -> tf.Tensor:
        width = tf.reduce_max(tf.reduce_sum(part["attention_mask"], axis=1))
        return compute({name: values[:, :width] for name, values in part.items()})

    found = in_chunks(narrow, ordered, columns=columns, rows_per_chunk=rows_per_chunk)
    return tf.gather(found, tf.argsort(order))
