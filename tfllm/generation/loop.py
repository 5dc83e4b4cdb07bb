"""What all loops that choose one token a row at a time have in common: begin and advance."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.generation.decodable import Decodable
from tfllm.generation.prompts import Prompts
from tfllm.generation.rules import Rules
from tfllm.generation.ruling import RuleTensors, apply_rules, ready_rules
from tfllm.generation.sampling import Sampling, choose_next, ready_sampling
from tfllm.generation.stop_bytes import StopBytes
from tfllm.generation.stop_strings import StopStrings

__all__ = [
    "Settings",
    "State",
    "advance",
    "begin",
    "blank_history",
    "read_chosen",
    "ready_settings",
    "record",
]


class Settings(NamedTuple):
    """What stays the same from step to step, besides the prompts.

    Attributes:
        sampling: how a token is chosen; None for the likeliest.
        rules: what is forbidden or made less likely; None for nothing.
        stop: texts that end a row; None for none.
        eos_id: `<int32>[]`, ends a row; None where nothing does.
    """

    sampling: Sampling | None
    rules: RuleTensors | None
    stop: StopBytes | None
    eos_id: tf.Tensor | None

    @property
    def look_back(self) -> bool:
        """Whether the loop has to carry the tokens so far."""
        return self.rules is not None and self.rules.look_back


class State(NamedTuple):
    """What changes from step to step.

    Attributes:
        count: `<int32>[]`, tokens chosen so far.
        token: `<int32>[batch]`, the last chosen.
        finished: `<bool>[batch]`.
        lengths: `<int32>[batch]`, new tokens of each row without the one that ended it.
        cache: the model's.
        history: `<int32>[batch, columns + 1]`, prompts and new tokens, -1 elsewhere; () where no
            rule looks back.
        tail: last bytes of the new text, see `StopBytes`; () without stop strings.
    """

    count: tf.Tensor
    token: tf.Tensor
    finished: tf.Tensor
    lengths: tf.Tensor
    cache: Any
    history: tf.Tensor | tuple[()]
    tail: tf.Tensor | tuple[()]


def ready_settings(
    sampling: Sampling | None,
    rules: Rules | None,
    stop: StopStrings | None,
    eos_id: int | tf.Tensor | None,
    rows: tf.Tensor,
) -> Settings:
    """Make tensors of what was asked for, and leave out what changes nothing."""
    return Settings(
        sampling=ready_sampling(sampling, rows),
        rules=ready_rules(rules, rows),
        stop=None if stop is None else stop.ready(),
        eos_id=None if eos_id is None else tf.cast(eos_id, tf.int32),
    )


def begin(prompts: Prompts, settings: Settings, logits: tf.Tensor, cache: Any) -> State:
    """Choose the first token of each row, from what reading the prompts gave."""
    rows = tf.shape(prompts.ids)[0]
    state = State(
        count=tf.constant(0),
        token=tf.zeros([rows], tf.int32),
        finished=tf.zeros([rows], tf.bool),
        lengths=tf.zeros([rows], tf.int32),
        cache=cache,
        history=blank_history(prompts) if settings.look_back else (),
        tail=() if settings.stop is None else settings.stop.begin(rows),
    )
    return _choose(prompts, settings, state, logits, cache)


def advance(model: Decodable, prompts: Prompts, settings: Settings, state: State) -> State:
    """Read the token that was chosen last and choose the next of each row."""
    logits, cache = read_chosen(model, prompts, state.token, state.count, state.cache)
    return _choose(prompts, settings, state, logits, cache)


def read_chosen(
    model: Decodable, prompts: Prompts, token: tf.Tensor, count: tf.Tensor, cache: Any
) -> tuple[tf.Tensor, Any]:
    """Run the `count`-th new token of each row, `<int32>[batch]`, through the model."""
    column = prompts.width + count - 1
    places = tf.range(prompts.columns)
    visible = (places >= prompts.padding[:, None]) & (places <= column)
    # A row that has ended runs along, and must not run out of the positions.
    position = tf.minimum(column - prompts.padding, model.max_positions - 1)[:, None]
    return model.read_token(token[:, None], position, visible, cache, column)


def blank_history(prompts: Prompts) -> tf.Tensor:
    """`<int32>[batch, columns + 1]`: the prompts, and -1 for padding and for what is to come."""
    known = tf.where(prompts.mask > 0, prompts.ids, -1)
    room = prompts.columns + 1 - prompts.width
    return tf.pad(known, [[0, 0], [0, room]], constant_values=-1)


def record(history: tf.Tensor, token: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Write `<int32>[batch]` into a column of the history."""
    rows = tf.range(tf.shape(token)[0])
    places = tf.stack([rows, tf.fill(tf.shape(rows), column)], axis=1)
    return tf.tensor_scatter_nd_update(history, places, token)


def _choose(
    prompts: Prompts, settings: Settings, state: State, logits: tf.Tensor, cache: Any
) -> State:
    history, tail = state.history, state.tail
    ended = state.finished | (state.count >= prompts.budget)
    if settings.rules is not None:
        logits = apply_rules(
            settings.rules, logits, history, prompts.width, state.count, settings.eos_id
        )
        allowed = tf.reduce_any(logits > -float("inf"), axis=-1)
        logits = tf.where(allowed[:, None], logits, 0.0)
        ended |= ~allowed
    token = choose_next(logits, settings.sampling, state.count)
    if settings.eos_id is not None:
        ended |= token == settings.eos_id
    lengths = state.lengths + tf.cast(~ended, tf.int32)
    ended |= lengths >= prompts.budget
    if settings.look_back:
        history = record(history, token, prompts.width + state.count)
    if settings.stop is not None:
        # After the lengths: the token that completes a stop string belongs to the row.
        stopped, tail = settings.stop.follow(tail, token)
        ended |= stopped
    return State(state.count + 1, token, ended, lengths, cache, history, tail)
