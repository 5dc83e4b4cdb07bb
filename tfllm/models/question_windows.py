"""Questions beside windows of a context that is longer than the backbone, in graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.text_windows import repeated

__all__ = ["PairFrame", "QuestionWindows", "cut_contexts", "frame_of_pair"]


class PairFrame(NamedTuple):
    """The special tokens around a question and a context: before, between and after them.

    Each is `<int32>[tokens, 2]`: id and token type.
    """

    before: np.ndarray
    between: np.ndarray
    after: np.ndarray
    token_types: tuple[int, int]
    """Of the two texts."""

    @property
    def size(self) -> int:
        """How many special tokens a row has."""
        return len(self.before) + len(self.between) + len(self.after)


class QuestionWindows(NamedTuple):
    """Windows of all rows, one after another: `<int32>[windows, width]`, but for the last."""

    features: dict[str, tf.Tensor]
    """`input_ids`, `attention_mask`, `token_type_ids`, and `context_mask`: 1 on the context."""
    starts: tf.Tensor
    """First byte of each token in its context; 0 on tokens of no context."""
    ends: tf.Tensor
    """Byte after its last."""
    rows: tf.Tensor
    """`<int32>[windows]`, the row that each was cut from; each row has one at least."""


def frame_of_pair(preprocess: Any) -> PairFrame:
    """Find out which special tokens a `tfllm.text.Preprocessor` puts around two texts.

    It is asked once, in Python, about "a" and "a".

    Raises:
        InputError: if it puts the second text first, or no special token anywhere.
    """
    with tf.init_scope():
        found = preprocess.with_offsets(["a"], ["a"])
        row = {name: values.numpy()[0] for name, values in found.items()}
    real = row["attention_mask"] == 1
    columns = np.stack([row["input_ids"], row["token_type_ids"]], axis=1)[real]
    (first,), (second,) = (np.nonzero(row["sequence_ids"][real] == text) for text in (0, 1))
    if first[0] > second[0] or len(columns) == len(first) + len(second):
        raise InputError(
            "answers are looked for where the tokenizer's template puts a question, then its "
            "context, with special tokens; this one does not. Give one like "
            "'[CLS] $A [SEP] $B [SEP]'"
        )
    return PairFrame(
        columns[: first[0]],
        columns[first[-1] + 1 : second[0]],
        columns[second[-1] + 1 :],
        (int(columns[first[0], 1]), int(columns[second[0], 1])),
    )


def cut_contexts(
    questions: tf.RaggedTensor,
    context: tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor],
    frame: PairFrame,
    *,
    sequence_length: int,
    overlap: int,
    pad_id: int,
) -> QuestionWindows:
    """Put each question before every window of its context.

    Every window but a context's last is full; a context that fits is one window, and so is an
    empty one. These are the rows that `data.QuestionEncoder` makes for training.

    Args:
        questions: `<int32>[batch, (tokens)]`, so short that each leaves room for more than the
            overlap.
        context: ids, first bytes and bytes after the last, `<int32>[batch, (tokens)]` each.
        frame: the special tokens.
        sequence_length: of a window, special tokens included.
        overlap: tokens of the context that a window shares with the one before it.
        pad_id: fills up the windows on the right.
    """
    ids, first_bytes, end_bytes = context
    lengths, limits = (tf.cast(t, tf.int32) for t in (ids.row_lengths(), ids.row_limits()))
    room = sequence_length - frame.size - tf.cast(questions.row_lengths(), tf.int32)
    stride = room - overlap
    counts = 1 + (tf.maximum(lengths - room, 0) + stride - 1) // stride
    rows = tf.repeat(tf.range(tf.size(counts)), counts)
    number = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(counts, exclusive=True), rows)
    starts = tf.gather(limits - lengths, rows) + number * tf.gather(stride, rows)
    ends = tf.minimum(starts + tf.gather(room, rows), tf.gather(limits, rows))
    places = tf.ragged.range(starts, ends)
    question, answers = frame.token_types
    asked = tf.gather(questions, rows)
    cut = [tf.gather(t.values, places.values) for t in (ids, first_bytes, end_bytes)]
    ones = tf.ones_like(cut[0])
    pieces = [
        _framing(frame.before, places.nrows()),
        _columns(asked, asked.values, question, 0, 0, 0),
        _framing(frame.between, places.nrows()),
        _columns(places, cut[0], answers, ones, *cut[1:]),
        _framing(frame.after, places.nrows()),
    ]
    dense = tf.concat(pieces, axis=1).to_tensor(-1)
    input_ids, *others = tf.unstack(dense, num=5, axis=-1)
    real = input_ids >= 0
    types, mask, first, end = (tf.where(real, column, 0) for column in others)
    features = {
        "input_ids": tf.where(real, input_ids, pad_id),
        "attention_mask": tf.cast(real, tf.int32),
        "token_type_ids": types,
        "context_mask": mask,
    }
    return QuestionWindows(features, first, end, rows)


def _columns(rows: tf.RaggedTensor, ids: tf.Tensor, *columns: tf.Tensor | int) -> tf.RaggedTensor:
    """`<int32>[windows, (tokens), 5]`: id, token type, whether context, first byte, byte after."""
    wide = [tf.broadcast_to(column, tf.shape(ids)) for column in columns]
    return rows.with_values(tf.stack([ids, *wide], axis=1))


def _framing(tokens: np.ndarray, count: tf.Tensor) -> tf.RaggedTensor:
    """`<int32>[tokens, 2]` → `<int32>[count, (tokens), 5]`."""
    return repeated(np.pad(tokens, [[0, 0], [0, 3]]), count)
