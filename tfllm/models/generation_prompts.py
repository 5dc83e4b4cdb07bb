"""Prompts and settings of `CausalLM.generate`, as people give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation.checks import (
    check_beam,
    check_budget,
    check_ids,
    check_rows,
    check_rules,
    check_sampling,
    check_words,
)
from tfllm.generation.id_rows import id_rows
from tfllm.generation.stop_bytes import MOST_BYTES
from tfllm.generation.stop_strings import StopStrings
from tfllm.models.generation_request import GenerationRequest

__all__ = [
    "begun_ids",
    "check_prompts",
    "check_request",
    "given_ids",
    "is_texts",
    "one_prompt",
    "prompt_ids",
    "required",
    "stop_strings",
    "text_of",
    "with_start",
    "word_bytes",
]


def is_texts(prompts: Any, tokenizer: Any = None) -> bool:
    """Whether these are texts and not ids. One text alone is refused.

    An empty list is one of texts where there is a tokenizer.
    """
    if isinstance(prompts, str | bytes):
        raise InputError(f"give a list of texts. Received one text: {prompts[:40]!r}")
    if hasattr(prompts, "dtype"):
        return _is_text_array(prompts)
    if not isinstance(prompts, Sequence):
        raise InputError(f"give a list of texts, or rows of ids. Received: {prompts!r:.60}")
    kinds = [isinstance(prompt, str | bytes) for prompt in prompts]
    if any(kinds) and not all(kinds):
        strange = kinds.index(False)
        raise InputError(f"prompt {strange} is no text: {prompts[strange]!r:.60}. Give texts alone")
    return all(kinds) if kinds else tokenizer is not None


def _is_text_array(prompts: Any) -> bool:
    dtype, shape = tf.as_dtype(prompts.dtype), tf.TensorShape(prompts.shape)
    is_text = dtype == tf.string
    right = is_text or dtype.is_integer
    if shape.rank is not None:
        right = right and (shape.rank == 1 if is_text else 1 <= shape.rank <= 2)
    if not right:
        raise InputError(
            "prompts must be texts [rows] or ids [rows, positions]. Received: an array of "
            f"{dtype.name} and shape {shape}"
        )
    return is_text


def given_ids(prompts: Any) -> tf.RaggedTensor:
    """Make rows of ids of what a caller gives, which `id_rows` takes.

    Raises:
        InputError: if it is no such thing.
    """
    try:
        return id_rows(prompts)
    except (TypeError, ValueError) as error:
        raise InputError(
            "prompts must be rows of ids, whole numbers, or texts. Received: "
            f"{' '.join(f'{prompts!r:.60}'.split())}"
        ) from error


def one_prompt(prompt: Any) -> Any:
    """Make a batch of one text, or of its ids.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(prompt, str | bytes):
        return [prompt]
    try:
        ids = tf.constant(prompt, tf.int32)
    except (TypeError, ValueError) as error:
        raise InputError(f"give one text, or its ids. Received: {prompt!r:.60}") from error
    if ids.shape.rank != 1:
        raise InputError(f"give one text, or its ids. Received: {prompt!r:.60}")
    return ids[None]


def required(tokenizer: Any) -> Any:
    """Refuse texts without a tokenizer."""
    if tokenizer is None:
        raise InputError("texts need a tokenizer: give tokenizer=, or ids in place of texts")
    return tokenizer


def prompt_ids(tokenizer: Any, texts: Any) -> tf.RaggedTensor:
    """Tokenize texts; an empty one becomes the start token.

    Raises:
        InputError: if a text is empty and there is no start token.
    """
    ids = tokenizer.tokenize(_text_tensor(texts, "prompt"))
    if tokenizer.bos_id is None and tf.executing_eagerly():
        lengths = ids.row_lengths().numpy()
        if not lengths.all():
            raise InputError(
                f"prompt {int(np.argmin(lengths))} has no tokens, and the tokenizer no start "
                "token to begin with. Give it a text"
            )
    return with_start(ids, tokenizer)


def with_start(ids: tf.RaggedTensor, tokenizer: Any) -> tf.RaggedTensor:
    """Put the tokenizer's start token, where it has one, into empty rows."""
    if tokenizer.bos_id is None:
        return ids
    return _prefixed(ids, tokenizer.bos_id, ids.row_lengths() == 0)


def begun_ids(tokenizer: Any, texts: Any) -> tf.RaggedTensor:
    """Tokenize texts and put the start token, where there is one, before each."""
    ids = tokenizer.tokenize(_text_tensor(texts, "text"))
    if tokenizer.bos_id is None:
        return ids
    return _prefixed(ids, tokenizer.bos_id, tf.ones_like(ids.row_lengths(), tf.bool))


def _prefixed(ids: tf.RaggedTensor, start: int, where: tf.Tensor) -> tf.RaggedTensor:
    starts = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.math.count_nonzero(where)], start), tf.cast(where, tf.int64)
    )
    return tf.concat([starts, ids], axis=1)


def word_bytes(tokenizer: Any) -> tf.Tensor:
    """The bytes of each word, `<string>[words]`."""
    words = getattr(required(tokenizer), "word_bytes", None)
    if words is None:
        raise InputError(
            "stop strings and streaming need a tokenizer whose words are bytes, a ByteLevelBPE. "
            f"Received: a {type(tokenizer).__name__}"
        )
    return words


def stop_strings(stop: Sequence[str] | StopStrings | None, tokenizer: Any) -> StopStrings | None:
    """Make `StopStrings` of texts."""
    if stop is None or isinstance(stop, StopStrings):
        return stop
    if isinstance(stop, str):
        raise InputError(f"stop must be a list of texts. Received: {stop!r}")
    if not stop:
        return None
    words = word_bytes(tokenizer)
    return StopStrings(words, _text_tensor(list(stop), "stop text", most=MOST_BYTES))


def _text_tensor(texts: Any, what: str, most: int | None = None) -> tf.Tensor:
    """Make a tensor of texts, after a look at those that are known; `most` counts bytes."""
    for number, text in enumerate(texts if isinstance(texts, Sequence) else ()):
        if tf.is_tensor(text):
            continue
        if not isinstance(text, str | bytes):
            raise InputError(f"{what} {number} is no text. Received: {text!r:.60}")
        try:
            count = len(text.encode() if isinstance(text, str) else text)
        except UnicodeEncodeError as error:
            raise InputError(
                f"{what} {number} is no Unicode text: it holds half a surrogate pair. Received: "
                f"{text!a:.60}"
            ) from error
        if most is not None and count > most:
            raise InputError(f"{what} {number} has {count} bytes, and may have {most}. Shorten it")
    return tf.convert_to_tensor(texts, tf.string)


def check_request(request: GenerationRequest, words: int, positions: int) -> None:
    """Refuse in eager Python what can't be meant.

    Args:
        request: with ids as `id_rows` gives them.
        words: of the model.
        positions: of the model.

    Raises:
        InputError: naming the setting or the prompt, and what was received.
    """
    check_sampling(request.sampling)
    check_rules(request.rules, request.max_new_tokens)
    if request.beam is not None:
        check_beam(request.beam)
    check_words(words, request.eos_id, request.rules)
    check_prompts(request, words, positions)


def check_prompts(request: GenerationRequest, words: int, positions: int) -> None:
    """Refuse prompts that the model can't read, and settings for other rows than theirs.

    Args:
        request: with ids as `id_rows` gives them.
        words: of the model.
        positions: of the model.

    Raises:
        InputError: naming the prompt, or the setting, and what was received.
    """
    check_budget(request.max_new_tokens)
    rows = int(request.input_ids.nrows())
    budget = request.max_new_tokens
    check_rows(rows, budget, request.sampling, request.rules, request.beam, request.stop)
    check_ids(request.input_ids, words)
    _check_lengths(request, positions)


def _check_lengths(request: GenerationRequest, positions: int) -> None:
    lengths = request.input_ids.row_lengths().numpy()
    if not len(lengths):
        return
    if not lengths.all():
        raise InputError(
            f"prompt {int(np.argmin(lengths))} has no tokens; begin it with a start token"
        )
    budget = np.broadcast_to(np.asarray(request.max_new_tokens, np.int64), lengths.shape)
    # The last new token is never read, and takes no position.
    taken = (np.ones_like(lengths) if request.slide else lengths) + np.maximum(budget - 1, 0)
    if taken.max() > positions:
        i = int(np.argmax(taken))
        mend = "fewer new tokens" if request.slide else "fewer new tokens, or slide=True"
        raise InputError(
            f"prompt {i} has {lengths[i]} tokens, and with max_new_tokens={budget[i]} they exceed "
            f"the model's {positions} positions. Give a shorter prompt, {mend}"
        )


def text_of(tokenizer: Any, ids: tf.RaggedTensor, stop: StopStrings | None) -> Any:
    """Detokenize; in eager Python a list of texts, or of lists of texts, in a graph a tensor."""
    several = ids.ragged_rank > 1 or ids.shape.rank > 2
    flat = ids.merge_dims(0, 1) if several else ids
    texts = tokenizer.detokenize(flat) if stop is None else _cut(flat, stop)
    if several:
        rows = tf.cast(ids.nrows(), tf.int32)
        # A beam's number is known: of no rows it could not be told.
        texts = tf.reshape(texts, [rows, ids.shape[1] or -1])
    if not tf.executing_eagerly():
        return texts
    if several:
        return [[text.decode() for text in row] for row in texts.numpy()]
    return [text.decode() for text in texts.numpy()]


def _cut(ids: tf.RaggedTensor, stop: StopStrings) -> tf.Tensor:
    """Join the words' bytes and cut them, before anything stands in for what is no UTF-8."""
    words = tf.concat([stop.words, [""]], axis=0)
    last = tf.shape(words)[0] - 1  # stands for ids that the tokenizer doesn't know
    joined = tf.strings.unsorted_segment_join(
        tf.gather(words, tf.minimum(ids.values, last)),
        ids.value_rowids(),
        tf.cast(ids.nrows(), tf.int32),
    )
    return tf.strings.unicode_transcode(stop.cut(joined), "UTF-8", "UTF-8")
