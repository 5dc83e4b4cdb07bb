"""How `Rules` change logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.generation.id_rows import id_rows
from tfllm.generation.row_settings import if_asked
from tfllm.generation.rules import Rules

__all__ = ["RuleTensors", "apply_rules", "ready_rules"]

_NONE = -1  # no id
# A forced word has a finite logit even where the model gives it none.
_FAINT = -1e9


class RuleTensors(NamedTuple):
    """Rules as the loop takes them; None for those that nobody asked for.

    Attributes:
        repetition_penalty, presence_penalty, frequency_penalty: `<float32>[batch]`.
        no_repeat_ngram_size, min_new_tokens: `<int32>[batch]`.
        bad_words: `<int32>[sequences, longest]`, right-aligned, -1 on the left.
        forced_prefix: `<int32>[batch, longest + 1]`, -1 on the right.
    """

    repetition_penalty: tf.Tensor | None
    presence_penalty: tf.Tensor | None
    frequency_penalty: tf.Tensor | None
    no_repeat_ngram_size: tf.Tensor | None
    bad_words: tf.Tensor | None
    min_new_tokens: tf.Tensor | None
    forced_prefix: tf.Tensor | None

    @property
    def look_back(self) -> bool:
        """Whether a rule has to know the tokens so far."""
        return any(rule is not None for rule in self[:5])


def ready_rules(rules: Rules | None, rows: tf.Tensor) -> RuleTensors | None:
    """Turn rules into tensors of `rows` rows, or None where there is no rule."""
    if rules is None:
        return None

    def number(name: str, dtype: tf.DType, neutral: float) -> tf.Tensor | None:
        setting = if_asked(getattr(rules, name), neutral, dtype, rows)
        return setting if tf.is_tensor(setting) else None

    tensors = RuleTensors(
        repetition_penalty=number("repetition_penalty", tf.float32, 1.0),
        presence_penalty=number("presence_penalty", tf.float32, 0.0),
        frequency_penalty=number("frequency_penalty", tf.float32, 0.0),
        no_repeat_ngram_size=number("no_repeat_ngram_size", tf.int32, 0),
        bad_words=_bad_words(rules.bad_words),
        min_new_tokens=number("min_new_tokens", tf.int32, 0),
        forced_prefix=_forced_prefix(rules.forced_prefix, rows),
    )
    return tensors if any(rule is not None for rule in tensors) else None


def apply_rules(
    rules: RuleTensors,
    logits: tf.Tensor,
    history: tf.Tensor,
    width: tf.Tensor,
    count: tf.Tensor,
    eos_id: int | tf.Tensor | None,
) -> tf.Tensor:
    """Change the logits of the next token; a forbidden word gets -inf.

    Args:
        rules: of the batch.
        logits: `<float32>[batch, words]`.
        history: `<int32>[batch, at least width + count]`: prompts, right-aligned to `width`
            places, and the new tokens behind them; -1 where there is none. Anything where not
            `rules.look_back`.
        width: `<int32>[]`.
        count: `<int32>[]`, new tokens so far.
        eos_id: the end token.

    Returns:
        `<float32>[batch, words]`.
    """
    given = logits
    if rules.look_back:
        history = history[:, : width + count]
        logits = _penalties(rules, logits, history, width)
        logits = _prohibitions(rules, logits, history)
    if rules.min_new_tokens is not None and eos_id is not None:
        early = (count < rules.min_new_tokens)[:, None]
        logits = tf.where(early & (_words(logits) == eos_id), -float("inf"), logits)
    if rules.forced_prefix is not None:
        last = tf.shape(rules.forced_prefix)[1] - 1
        forced = rules.forced_prefix[:, tf.minimum(count, last)][:, None]
        alone = tf.where(_words(logits) == forced, tf.maximum(given, _FAINT), -float("inf"))
        logits = tf.where(forced >= 0, alone, logits)
    return logits


def _penalties(
    rules: RuleTensors, logits: tf.Tensor, history: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
    def repeated(penalty: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        changed = tf.where(logits < 0.0, logits * penalty, logits / penalty)
        return tf.where(_times(history, logits) > 0.0, changed, logits)

    def present(penalty: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        there = tf.cast(_times(history[:, width:], logits) > 0.0, tf.float32)
        return logits - penalty * there

    def frequent(penalty: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return logits - penalty * _times(history[:, width:], logits)

    logits = _when(rules.repetition_penalty, 1, repeated, logits)
    logits = _when(rules.presence_penalty, 0, present, logits)
    return _when(rules.frequency_penalty, 0, frequent, logits)


def _prohibitions(rules: RuleTensors, logits: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    def no_repeats(size: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        again = _repeating(history, size)
        return tf.where(_times(again, logits) > 0.0, -float("inf"), logits)

    logits = _when(rules.no_repeat_ngram_size, 0, no_repeats, logits)
    if rules.bad_words is not None:
        completing = _completing(history, rules.bad_words)
        logits = tf.where(_times(completing, logits) > 0.0, -float("inf"), logits)
    return logits


def _when(
    setting: tf.Tensor | None,
    neutral: int,
    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    logits: tf.Tensor,
) -> tf.Tensor:
    """Change the logits only if a row asks for it; requests carry every setting.

    `change` gets the setting as `[batch, 1]`, and the logits.
    """
    if setting is None:
        return logits
    wanted = tf.reduce_any(setting != tf.cast(neutral, setting.dtype))
    return tf.cond(wanted, lambda: change(setting[:, None], logits), lambda: logits)


def _times(ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """How often each word is among `<int32>[batch, n]`: `<float32>[batch, words]`."""
    rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(ids))
    places = tf.stack([rows, tf.maximum(ids, 0)], axis=-1)
    return tf.scatter_nd(places, tf.cast(ids >= 0, tf.float32), tf.shape(logits))


def _repeating(history: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Keep of `<int32>[batch, n]` what would end an n-gram for the second time; -1 elsewhere.

    `sizes` is `<int32>[batch, 1]`; 0 for no such rule.
    """
    length = tf.shape(history)[1]
    before = tf.clip_by_value(tf.reduce_max(sizes) - 1, 0, length)
    back = tf.range(1, before + 1)
    padded = tf.pad(history, [[0, 0], [before, 0]], constant_values=_NONE)
    # [batch, n, before]: the tokens before each place, the nearest first.
    windows = tf.gather(padded, tf.range(length)[:, None] + before - back, axis=1)
    tail = tf.gather(history, length - back, axis=1)[:, None, :]
    beyond = (back > sizes - 1)[:, None, :]
    same = tf.reduce_all((windows == tail) & (tail >= 0) | beyond, axis=-1)
    # A tail that is cut short by the history's beginning ends nothing.
    enough = (length >= sizes - 1) & (sizes > 0)
    return tf.where(same & enough, history, _NONE)


def _completing(history: tf.Tensor, bad_words: tf.Tensor) -> tf.Tensor:
    """Give the ids that would complete a sequence, `<int32>[batch, sequences]`, or -1."""
    before = tf.shape(bad_words)[1] - 1
    padded = tf.pad(history, [[0, 0], [before, 0]], constant_values=_NONE)
    tail = padded[:, tf.shape(padded)[1] - before :][:, None, :]
    beginnings = bad_words[None, :, :-1]
    same = tf.reduce_all((tail == beginnings) | (beginnings < 0), axis=-1)
    return tf.where(same, bad_words[None, :, -1], _NONE)


def _words(logits: tf.Tensor) -> tf.Tensor:
    return tf.range(tf.shape(logits)[1])[None, :]


def _bad_words(sequences: Any) -> tf.Tensor | None:
    if sequences is None:
        return None
    ragged = id_rows(sequences)
    # Reversed and back, so that the padding is on the left; one place at least.
    dense = ragged[:, ::-1].to_tensor(_NONE)
    return tf.pad(
        dense, [[0, 0], [0, tf.cast(tf.shape(dense)[1] < 1, tf.int32)]], constant_values=_NONE
    )[:, ::-1]


def _forced_prefix(ids: Any, rows: tf.Tensor) -> tf.Tensor | None:
    if ids is None or isinstance(ids, Sequence) and not ids:
        return None
    ragged = id_rows(ids)
    dense = tf.pad(ragged.to_tensor(_NONE), [[0, 0], [0, 1]], constant_values=_NONE)
    return tf.broadcast_to(dense, [rows, tf.shape(dense)[1]])
