"""Prompts as a loop takes them: right-aligned, checked, within the model's positions."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation.id_rows import id_rows

__all__ = ["Prompts", "left_padded", "ready_prompts"]


class Prompts(NamedTuple):
    """Prompts of different lengths, right-aligned, so that every row writes the same column.

    Attributes:
        ids: `<int32>[batch, width]`, 0 on the left.
        mask: `<int32>[batch, width]`, 1 for what is real.
        padding: `<int32>[batch]`, how many places of the row are not.
        budget: `<int32>[batch]`, how many new tokens each row may have.
    """

    ids: tf.Tensor
    mask: tf.Tensor
    padding: tf.Tensor
    budget: tf.Tensor

    @property
    def width(self) -> tf.Tensor:
        """`<int32>[]`: columns of the cache that the prompts take."""
        return tf.shape(self.ids)[1]

    @property
    def columns(self) -> tf.Tensor:
        """`<int32>[]`: columns of the cache; the last new token is never read and takes none."""
        return self.width + tf.maximum(tf.reduce_max(self.budget), 1) - 1


def ready_prompts(
    input_ids: tf.Tensor | tf.RaggedTensor,
    max_new_tokens: int | tf.Tensor,
    max_positions: int,
    *,
    slide: bool = False,
) -> Prompts:
    """Right-align prompts, and refuse those that leave no room.

    Args:
        input_ids: `<int>[batch, (positions)]`, ragged or dense; no row empty.
        max_new_tokens: `<int32>[]` or `[batch]`.
        max_positions: what the model has.
        slide: a prompt that leaves no room keeps its last `max_positions - max_new_tokens + 1`
            tokens, and is no error.

    Raises:
        InputError: if a row is empty, or a prompt and its new tokens exceed the model's positions;
            in a graph an InvalidArgumentError.
    """
    ids = id_rows(input_ids)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    rows = tf.shape(lengths)[0]
    budget = tf.broadcast_to(tf.cast(max_new_tokens, tf.int32), [rows])
    # The last new token takes no position.
    room = max_positions - budget + 1
    if slide:
        ids, lengths = _last(ids, tf.clip_by_value(room, 1, max_positions))
    with tf.control_dependencies(_checks(lengths, budget, max_positions)):
        padded, mask = left_padded(ids)
    return Prompts(padded, mask, tf.shape(padded)[1] - lengths, budget)


def left_padded(ids: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Right-align ragged rows.

    Args:
        ids: `<int32>[batch, (positions)]`.

    Returns:
        ids `<int32>[batch, longest]` with 0 on the left, and the mask of real ones,
        `<int32>[batch, longest]`. At least one position wide.

    Example:
        [[5], [6, 7]] → [[0, 5], [6, 7]] and [[0, 1], [1, 1]].
    """
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    width = tf.maximum(tf.reduce_max(lengths), 1)
    dense = ids.to_tensor()
    dense = tf.pad(dense, [[0, 0], [0, width - tf.shape(dense)[1]]])
    source = tf.range(width)[None, :] - (width - lengths)[:, None]
    real = source >= 0
    moved = tf.gather(dense, tf.maximum(source, 0), batch_dims=1)
    return tf.where(real, moved, 0), tf.cast(real, tf.int32)


def _last(ids: tf.RaggedTensor, room: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Keep the last `<int32>[batch]` tokens of each row."""
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    places = tf.range(tf.size(ids.flat_values)) - tf.cast(
        tf.gather(ids.row_starts(), ids.value_rowids()), tf.int32
    )
    late = places >= tf.gather(lengths - room, ids.value_rowids())
    lengths = tf.minimum(lengths, room)
    kept = tf.boolean_mask(ids.flat_values, late)
    return tf.RaggedTensor.from_row_lengths(kept, lengths, validate=False), lengths


def _checks(lengths: tf.Tensor, budget: tf.Tensor, max_positions: int) -> list[Any]:
    empty = "a prompt has no tokens; begin it with a start token"
    long = f"prompt and max_new_tokens exceed the model's {max_positions} positions"
    fits = lengths <= tf.where(budget > 0, max_positions - budget + 1, max_positions)
    if tf.is_symbolic_tensor(fits):
        return [
            tf.debugging.assert_positive(lengths, message=empty),
            tf.debugging.Assert(tf.reduce_all(fits), [long, lengths, budget]),
        ]
    for row, (length, new, right) in enumerate(
        zip(lengths.numpy(), budget.numpy(), fits.numpy(), strict=True)
    ):
        if length < 1:
            raise InputError(f"{empty}. Received: an empty one in row {row}")
        if not right:
            raise InputError(
                f"{long}. Received: {length} tokens and max_new_tokens={new} in row {row}. Shorten "
                "one of them, or let the prompt slide"
            )
    return []
