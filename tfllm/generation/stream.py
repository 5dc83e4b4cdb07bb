"""Decoding step by step, for those who show each token as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation.checks import check_budget, check_rules, check_sampling, check_words
from tfllm.generation.decodable import Decodable
from tfllm.generation.loop import Settings, State, ready_settings
from tfllm.generation.prompts import Prompts, ready_prompts
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings
from tfllm.generation.stream_functions import StreamFunctions

__all__ = ["stream"]


def stream(
    model: Decodable,
    input_ids: tf.Tensor | tf.RaggedTensor,
    *,
    max_new_tokens: int | tf.Tensor,
    sampling: Sampling | None = None,
    rules: Rules | None = None,
    stop: StopStrings | None = None,
    eos_id: int | None = None,
    slide: bool = False,
    functions: StreamFunctions | None = None,
) -> Iterator[np.ndarray]:
    """Give the tokens that `decode` gives, one of each row at a time. Eager Python only.

    Args:
        model: runs prompts and tokens.
        input_ids: `<int32>[batch, (positions)]`, ragged or dense; no row empty.
        max_new_tokens: `<int32>[]` or `[batch]`.
        sampling: how a token is chosen; None for the likeliest.
        rules: as in `decode`.
        stop: as in `decode`.
        eos_id: ends a row, and is not part of the result.
        slide: as in `decode`.
        functions: the model's traced functions; without them they are traced for this call.

    Yields:
        `<int32>[batch]`, with -1 in rows that have ended.

    Raises:
        InputError: as in `decode`; before anything is yielded.
    """
    if not tf.executing_eagerly():
        raise InputError("stream runs in eager Python; use decode inside a tf.function")
    check_budget(max_new_tokens)
    check_sampling(sampling)
    check_rules(rules, max_new_tokens)
    prompts = ready_prompts(input_ids, max_new_tokens, model.max_positions, slide=slide)
    rows = tf.shape(prompts.ids)[0]
    settings = ready_settings(sampling, rules, stop, eos_id, rows)
    functions = functions or StreamFunctions(model)
    pair = functions.of(settings)
    check_words(functions.words, eos_id, rules)
    return _steps(*pair, prompts, settings)


def _steps(
    begin: Callable[..., State],
    advance: Callable[..., State],
    prompts: Prompts,
    settings: Settings,
) -> Iterator[np.ndarray]:
    state = begin(prompts, settings)
    while True:
        # A row that got a token in this step has as many as there were steps.
        alive = (state.lengths == state.count).numpy()
        if alive.any():
            yield np.where(alive, state.token.numpy(), -1)
        if state.finished.numpy().all():
            return
        state = advance(prompts, settings, state)
