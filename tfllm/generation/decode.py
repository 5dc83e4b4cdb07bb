"""The decode loop: prompts in, new tokens out, over a cache that is allocated once."""

from __future__ import annotations

import tensorflow as tf

from tfllm.generation.checks import check_budget, check_rules, check_sampling, check_words
from tfllm.generation.decodable import Decodable
from tfllm.generation.loop import State, advance, begin, ready_settings
from tfllm.generation.prompts import left_padded, ready_prompts
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings

__all__ = ["Decodable", "Sampling", "decode", "left_padded"]


def decode(
    model: Decodable,
    input_ids: tf.Tensor | tf.RaggedTensor,
    *,
    max_new_tokens: int | tf.Tensor,
    sampling: Sampling | None = None,
    rules: Rules | None = None,
    stop: StopStrings | None = None,
    eos_id: int | None = None,
    slide: bool = False,
) -> tf.RaggedTensor:
    """Continue each row until `eos_id`, a stop string or `max_new_tokens`.

    It stops when all rows have ended.

    Prompts of different lengths stand right-aligned in the cache, so that every row writes the
    same column; padding is neither seen nor counted, and each row gets what it gets alone.

    Args:
        model: runs prompts and tokens.
        input_ids: `<int32>[batch, (positions)]`, ragged or dense; no row empty.
        max_new_tokens: `<int32>[]` or `[batch]`.
        sampling: how a token is chosen; None for the likeliest.
        rules: what a row must, may not, or should rather not contain.
        stop: texts that end a row; the token that completes one is part of the result.
        eos_id: ends a row, and is not part of the result.
        slide: a prompt that leaves no room for its new tokens keeps its last
            `max_positions - max_new_tokens + 1` tokens; without it that is an error.

    Returns:
        `<int32>[batch, (new tokens)]`.

    Raises:
        InputError: if a setting can't be meant, an id is none of the model's words, a row is
            empty, or a prompt and its new tokens exceed the model's positions.
        InvalidArgumentError: instead, for what is known only inside a graph.
    """
    check_budget(max_new_tokens)
    check_sampling(sampling)
    check_rules(rules, max_new_tokens)
    prompts = ready_prompts(input_ids, max_new_tokens, model.max_positions, slide=slide)
    rows = tf.shape(prompts.ids)[0]
    settings = ready_settings(sampling, rules, stop, eos_id, rows)
    logits, cache = model.read_prompt(prompts.ids, prompts.mask, prompts.columns)
    check_words(logits.shape[-1], eos_id, rules)
    state = begin(prompts, settings, logits, cache)
    steps = tf.maximum(tf.reduce_max(prompts.budget), 0)
    # Read only whole, at the end; an early stop leaves its last elements unwritten.
    tokens = tf.TensorArray(tf.int32, size=steps + 1, element_shape=[None])

    def step(state: State, tokens: tf.TensorArray) -> tuple[State, tf.TensorArray]:
        state = advance(model, prompts, settings, state)
        return state, tokens.write(state.count - 1, state.token)

    state, tokens = tf.while_loop(
        lambda state, _: ~tf.reduce_all(state.finished),
        step,
        (state, tokens.write(0, state.token)),
        parallel_iterations=1,
    )
    written = tf.transpose(tokens.gather(tf.range(state.count)))
    return tf.RaggedTensor.from_tensor(tf.reshape(written, [rows, -1]), lengths=state.lengths)
