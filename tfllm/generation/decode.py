"""The decode loop: prompts in, new tokens out, over a cache that is allocated once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from tfllm.generation.sampling import Sampling, choose_next

__all__ = ["Decodable", "Sampling", "decode", "left_padded"]


class Decodable(Protocol):
    """What the loop asks of a model. A cache is any nest of tensors `[batch, …, columns, …]`."""

    @property
    def max_positions(self) -> int:
        """Positions that a row may have, prompt and new tokens together."""
        ...

    def read_prompt(
        self, input_ids: tf.Tensor, attention_mask: tf.Tensor, columns: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Run left-padded prompts `[batch, positions]`.

        Returns:
            logits of what comes next `<float32>[batch, words]`, and a cache with room for
            `columns` columns, of which the prompt fills the first.
        """
        ...

    def read_token(
        self,
        token: tf.Tensor,
        position: tf.Tensor,
        visible: tf.Tensor,
        cache: Any,
        column: tf.Tensor,
    ) -> tuple[tf.Tensor, Any]:
        """Run one more token of each row, `<int32>[batch, 1]`, into `column` of the cache.

        `position` is `<int32>[batch, 1]`, `visible` is `<bool>[batch, columns]`.

        Returns:
            logits of what comes next `<float32>[batch, words]`, and the cache.
        """
        ...


class _State(NamedTuple):
    """What the loop carries.

    Attributes:
        count: `<int32>[]`, tokens chosen so far.
        token: `<int32>[batch]`, the last chosen.
        finished: `<bool>[batch]`.
        lengths: `<int32>[batch]`, new tokens of each row without the one that ended it.
        tokens: array of `<int32>[batch]`, one element a step.
        cache: the model's.
    """

    count: tf.Tensor
    token: tf.Tensor
    finished: tf.Tensor
    lengths: tf.Tensor
    tokens: tf.TensorArray
    cache: Any


def decode(
    model: Decodable,
    input_ids: tf.Tensor | tf.RaggedTensor,
    *,
    max_new_tokens: int | tf.Tensor,
    sampling: Sampling | None = None,
    eos_id: int | None = None,
) -> tf.RaggedTensor:
    """Continue each row until `eos_id` or `max_new_tokens`; stop when all rows have ended.

    Prompts of different lengths stand right-aligned in the cache, so that every row writes the
    same column; padding is neither seen nor counted, and each row gets what it gets alone.

    Args:
        model: runs prompts and tokens.
        input_ids: `<int32>[batch, (positions)]`, ragged or dense; no row empty.
        max_new_tokens: `<int32>[]` or `[batch]`.
        sampling: how a token is chosen; None for the likeliest.
        eos_id: ends a row, and is not part of the result.

    Returns:
        `<int32>[batch, (new tokens)]`.

    Raises:
        InvalidArgumentError: if a row is empty, or a prompt and its new tokens exceed the model's
            positions.
    """
    if not isinstance(input_ids, tf.RaggedTensor):
        # `from_tensor` of no rows can't be turned back into a tensor.
        rows, width = tf.unstack(tf.shape(input_ids))
        input_ids = tf.RaggedTensor.from_row_lengths(
            tf.reshape(input_ids, [-1]), tf.fill([rows], width)
        )
    input_ids = tf.cast(input_ids, tf.int32)
    prompt_lengths = tf.cast(input_ids.row_lengths(), tf.int32)
    rows = tf.shape(prompt_lengths)[0]
    budget = tf.broadcast_to(tf.cast(max_new_tokens, tf.int32), [rows])
    with tf.control_dependencies(_checks(prompt_lengths, budget, model.max_positions)):
        prompt, mask = left_padded(input_ids)
    width = tf.shape(prompt)[1]
    steps = tf.maximum(tf.reduce_max(budget), 0)
    # The last new token is never read, so it takes no column and no position.
    columns = width + tf.maximum(steps - 1, 0)
    logits, cache = model.read_prompt(prompt, mask, columns)
    padding = width - prompt_lengths

    def record(state: _State, logits: tf.Tensor, cache: Any) -> _State:
        token = choose_next(logits, sampling, state.count)
        ended = state.finished | (state.count >= budget)
        if eos_id is not None:
            ended |= token == eos_id
        lengths = state.lengths + tf.cast(~ended, tf.int32)
        tokens = state.tokens.write(state.count, token)
        ended |= lengths >= budget
        return _State(state.count + 1, token, ended, lengths, tokens, cache)

    def next_token(*fields: Any) -> _State:
        state = _State(*fields)
        column = width + state.count - 1
        places = tf.range(columns)
        visible = (places >= padding[:, None]) & (places <= column)
        # A row that has ended runs along, and must not run out of the positions.
        position = tf.minimum(column - padding, model.max_positions - 1)[:, None]
        logits, cache = model.read_token(
            state.token[:, None], position, visible, state.cache, column
        )
        return record(state, logits, cache)

    start = _State(
        count=tf.constant(0),
        token=tf.zeros([rows], tf.int32),
        finished=tf.zeros([rows], tf.bool),
        lengths=tf.zeros([rows], tf.int32),
        # Read only whole, at the end; an early stop leaves its last elements unwritten.
        tokens=tf.TensorArray(tf.int32, size=steps + 1, element_shape=[None]),
        cache=cache,
    )
    final = tf.while_loop(
        lambda *fields: ~tf.reduce_all(_State(*fields).finished),
        next_token,
        tuple(record(start, logits, cache)),
        parallel_iterations=1,
    )
    final = _State(*final)
    written = tf.transpose(final.tokens.gather(tf.range(final.count)))
    return tf.RaggedTensor.from_tensor(tf.reshape(written, [rows, -1]), lengths=final.lengths)


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


def _checks(
    prompt_lengths: tf.Tensor, budget: tf.Tensor, max_positions: int
) -> list[tf.Operation | None]:
    return [
        tf.debugging.assert_positive(
            prompt_lengths, message="a prompt has no tokens; begin it with a start token"
        ),
        tf.debugging.assert_less_equal(
            budget,
            max_positions - prompt_lengths + 1,
            message=f"prompt and max_new_tokens exceed the model's {max_positions} positions",
        ),
    ]
