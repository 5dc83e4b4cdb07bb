"""Beam search over the cache that the decode loop uses."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.generation.beam import Beam
from tfllm.generation.checks import check_beam, check_budget, check_rules, check_words
from tfllm.generation.decodable import Decodable
from tfllm.generation.loop import Settings, blank_history, read_chosen, ready_settings
from tfllm.generation.prompts import Prompts, ready_prompts
from tfllm.generation.row_settings import per_row
from tfllm.generation.rules import Rules
from tfllm.generation.ruling import RuleTensors, apply_rules
from tfllm.generation.stop_bytes import StopBytes
from tfllm.generation.stop_strings import StopStrings

__all__ = ["beam_search"]

# The score of what is no hypothesis. It is finite: infinities would become NaN further on.
_NOTHING = -1e9


class _Running(NamedTuple):
    """Hypotheses that go on.

    Attributes:
        tokens: `<int32>[batch, beams, steps]`, new ids so far.
        scores: `<float32>[batch, beams]`, sums of log-likelihoods, best first.
        origins: `<int32>[batch, beams]`, which of the last step's hypotheses each goes on from.
        tails: `<int16>[batch, beams, …]`, see `StopBytes`; () without stop strings.
    """

    tokens: tf.Tensor
    scores: tf.Tensor
    origins: tf.Tensor
    tails: tf.Tensor | tuple[()]


class _Finished(NamedTuple):
    """The best finished ones so far.

    Attributes:
        tokens: `<int32>[batch, beams, steps]`.
        scores: `<float32>[batch, beams]`, with the length penalty, best first.
        lengths: `<int32>[batch, beams]`, without the end token.
        real: `<bool>[batch, beams]`, whether there is one.
    """

    tokens: tf.Tensor
    scores: tf.Tensor
    lengths: tf.Tensor
    real: tf.Tensor


class _Candidates(NamedTuple):
    """The best `2 · beams` ways to go on, best first.

    Attributes:
        running: the hypotheses that they would become.
        hits: `<bool>[batch, 2 · beams]`, whether that would be the end.
        lengths: `<int32>[batch, 2 · beams]`, without the end token.
    """

    running: _Running
    hits: tf.Tensor
    lengths: tf.Tensor


class _State(NamedTuple):
    """What the loop carries.

    Attributes:
        count: `<int32>[]`, tokens chosen so far.
        searching: `<bool>[batch]`.
        running: hypotheses that go on.
        finished: those that don't.
        cache: the model's, with `batch · beams` rows.
    """

    count: tf.Tensor
    searching: tf.Tensor
    running: _Running
    finished: _Finished
    cache: Any


class _Search(NamedTuple):
    """What stays the same: `prompts` of the batch, `beamed` with every row `num_beams` times."""

    prompts: Prompts
    beamed: Prompts
    settings: Settings
    beam: Beam
    length_penalty: tf.Tensor


def beam_search(
    model: Decodable,
    input_ids: tf.Tensor | tf.RaggedTensor,
    *,
    max_new_tokens: int | tf.Tensor,
    beam: Beam,
    rules: Rules | None = None,
    stop: StopStrings | None = None,
    eos_id: int | None = None,
    slide: bool = False,
) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Look for each row's best continuations, as transformers' beam search does.

    Every step takes the best `2 · num_beams` ways to go on. Those that end and are among the first
    `num_beams` of them are finished; the best `num_beams` others go on. A hypothesis after which
    the rules allow no word ends there, as if a certain end token had come. Prompts are read once. A
    row's result does not depend on its neighbours.

    Args:
        model: runs prompts and tokens.
        input_ids: `<int32>[batch, (positions)]`, ragged or dense; no row empty.
        max_new_tokens: `<int32>[]` or `[batch]`.
        beam: how wide, and how continuations are compared.
        rules: applied to log-likelihoods, which then need not add up to 1.
        stop: texts that end a continuation; the token that completes one is part of the result.
        eos_id: ends a continuation, and is not part of the result; its log-likelihood counts.
        slide: as in `decode`.

    Returns:
        ids `<int32>[batch, num_returned, (new tokens)]` and scores
        `<float32>[batch, num_returned]`, best first. Where there are fewer continuations than
        that, the rest are empty and score -1e9.

    Raises:
        InputError: as in `decode`.
    """
    check_budget(max_new_tokens)
    check_beam(beam)
    check_rules(rules, max_new_tokens)
    prompts = ready_prompts(input_ids, max_new_tokens, model.max_positions, slide=slide)
    search = _prepare(prompts, beam, rules, stop, eos_id)
    logits, cache = model.read_prompt(prompts.ids, prompts.mask, prompts.columns)
    check_words(logits.shape[-1], eos_id, rules)
    state = _step(search, _start(search), _repeat(logits, beam), _repeat(cache, beam))

    def following(*fields: Any) -> _State:
        state = _State(*fields)
        token = tf.reshape(state.running.tokens[:, :, state.count - 1], [-1])
        cache = _reordered(state.cache, state.running.origins)
        logits, cache = read_chosen(model, search.beamed, token, state.count, cache)
        return _step(search, state, logits, cache)

    final = tf.while_loop(
        lambda *fields: tf.reduce_any(_State(*fields).searching),
        following,
        tuple(state),
        parallel_iterations=1,
    )
    return _best(_State(*final).finished, beam)


def _prepare(
    prompts: Prompts,
    beam: Beam,
    rules: Rules | None,
    stop: StopStrings | None,
    eos_id: int | None,
) -> _Search:
    rows = tf.shape(prompts.ids)[0]
    settings = ready_settings(None, rules, stop, eos_id, rows)
    if settings.rules is not None:
        shared = settings.rules.bad_words
        repeated = _repeat(settings.rules._replace(bad_words=None), beam)
        settings = settings._replace(rules=repeated._replace(bad_words=shared))
    if settings.stop is not None:
        stops = settings.stop.stops
        stops = tf.broadcast_to(stops, tf.concat([[rows], tf.shape(stops)[1:]], axis=0))
        stops = tf.repeat(stops, 2 * beam.num_beams, axis=0)
        settings = settings._replace(stop=settings.stop._replace(stops=stops))
    length_penalty = per_row(beam.length_penalty, tf.float32, rows)
    return _Search(prompts, _repeat(prompts, beam), settings, beam, length_penalty)


def _repeat(rows: Any, beam: Beam) -> Any:
    """Every row `num_beams` times, in each tensor of a nest."""
    return tf.nest.map_structure(
        lambda t: None if t is None else tf.repeat(t, beam.num_beams, axis=0), rows
    )


def _reordered(cache: Any, origins: tf.Tensor) -> Any:
    """Move the cache's rows to the hypotheses that go on from them."""
    batch, beams = tf.unstack(tf.shape(origins))
    rows = tf.reshape(origins + beams * tf.range(batch)[:, None], [-1])
    return tf.nest.map_structure(lambda t: tf.gather(t, rows), cache)


def _start(search: _Search) -> _State:
    budget, beams = search.prompts.budget, search.beam.num_beams
    rows = tf.shape(budget)[0]
    tokens = tf.zeros([rows, beams, tf.maximum(tf.reduce_max(budget), 1)], tf.int32)
    # All begin alike: only the first may go on at first, or the others would be its copies.
    first = tf.broadcast_to(tf.range(beams) == 0, [rows, beams])
    tails: tf.Tensor | tuple[()] = ()
    if search.settings.stop is not None:
        tails = tf.reshape(search.settings.stop.begin(rows * beams), [rows, beams, -1])
    # Where nothing may be added, nothing is the best continuation.
    over = first & (budget < 1)[:, None]
    return _State(
        count=tf.constant(0),
        searching=budget > 0,
        running=_Running(
            tokens, tf.where(first, 0.0, _NOTHING), tf.zeros([rows, beams], tf.int32), tails
        ),
        finished=_Finished(
            tokens, tf.where(over, 0.0, _NOTHING), tf.zeros([rows, beams], tf.int32), over
        ),
        cache=(),
    )


def _step(search: _Search, state: _State, logits: tf.Tensor, cache: Any) -> _State:
    """Go on from `<float32>[batch · beams, words]`."""
    candidates = _candidates(search, state, logits)
    running = _go_on(candidates, search.beam)
    finished = _finish(search, state, candidates)
    state = _State(state.count + 1, state.searching, running, finished, cache)
    return state._replace(searching=_still_searching(search, state))


def _candidates(search: _Search, state: _State, logits: tf.Tensor) -> _Candidates:
    likelihoods = tf.nn.log_softmax(logits)
    words, beams = tf.shape(logits)[1], search.beam.num_beams
    batch = tf.shape(state.searching)[0]
    stuck: tf.Tensor | None = None
    if search.settings.rules is not None:
        likelihoods = _ruled(search, search.settings.rules, state, likelihoods)
        stuck = tf.reduce_all(tf.math.is_inf(likelihoods), axis=1)
        # Where no word is allowed, one candidate stands for the end, as if it were sure.
        end = stuck[:, None] & (tf.range(words) == 0)
        likelihoods = tf.where(end, 0.0, likelihoods)
    scores = tf.reshape(likelihoods, [batch, beams, words]) + state.running.scores[:, :, None]
    # What is forbidden is no worse than nothing at all.
    scores = tf.reshape(tf.maximum(scores, _NOTHING), [batch, beams * words])
    scores, chosen = tf.math.top_k(scores, k=2 * beams)
    origins, ids = chosen // words, chosen % words
    tokens = tf.gather(state.running.tokens, origins, batch_dims=1)
    here = tf.range(tf.shape(tokens)[2]) == state.count
    tokens = tf.where(here, ids[:, :, None], tokens)
    hits = tf.broadcast_to((state.count + 1 >= search.prompts.budget)[:, None], tf.shape(ids))
    lengths = tf.fill(tf.shape(ids), state.count + 1)
    if search.settings.eos_id is not None:
        hits |= ids == search.settings.eos_id
        lengths -= tf.cast(ids == search.settings.eos_id, tf.int32)
    if stuck is not None:
        ended = tf.gather(tf.reshape(stuck, [batch, beams]), origins, batch_dims=1)
        hits |= ended
        lengths = tf.where(ended, state.count, lengths)
    tails = state.running.tails
    if search.settings.stop is not None:
        stopped, tails = _follow(search.settings.stop, tf.gather(tails, origins, batch_dims=1), ids)
        hits |= stopped
    return _Candidates(_Running(tokens, scores, origins, tails), hits, lengths)


def _ruled(search: _Search, rules: RuleTensors, state: _State, likelihoods: tf.Tensor) -> tf.Tensor:
    settings = search.settings
    history: tf.Tensor = ()
    if settings.look_back:
        new = state.running.tokens
        new = tf.reshape(new, [-1, tf.shape(new)[2]])
        history = tf.concat([blank_history(search.beamed)[:, : search.beamed.width], new], axis=1)
    width = search.beamed.width
    return apply_rules(rules, likelihoods, history, width, state.count, settings.eos_id)


def _follow(stop: StopBytes, tails: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    flat = tf.reshape(tails, tf.stack([tf.size(ids), tf.shape(tails)[2]]))
    stopped, flat = stop.follow(flat, tf.reshape(ids, [-1]))
    return tf.reshape(stopped, tf.shape(ids)), tf.reshape(flat, tf.shape(tails))


def _go_on(candidates: _Candidates, beam: Beam) -> _Running:
    """Keep the best of the candidates that have not ended."""
    scores = candidates.running.scores + tf.where(candidates.hits, _NOTHING, 0.0)
    scores, chosen = tf.math.top_k(scores, k=beam.num_beams)
    kept = tf.nest.map_structure(
        lambda t: tf.gather(t, chosen, batch_dims=1), candidates.running._replace(scores=())
    )
    return kept._replace(scores=scores)


def _finish(search: _Search, state: _State, candidates: _Candidates) -> _Finished:
    """Merge the candidates that have ended into the best finished ones."""
    beams, old = search.beam.num_beams, state.finished
    new = candidates.hits & (tf.range(2 * beams) < beams) & state.searching[:, None]
    new &= candidates.running.scores > _NOTHING / 2  # less is nothing, whatever it is added to
    length = tf.cast(state.count + 1, tf.float32) ** search.length_penalty
    scores = tf.where(new, candidates.running.scores / length[:, None], _NOTHING)
    both = tf.nest.map_structure(
        lambda a, b: tf.concat([a, b], axis=1),
        old,
        _Finished(candidates.running.tokens, scores, candidates.lengths, new),
    )
    _, chosen = tf.math.top_k(both.scores, k=beams)
    return tf.nest.map_structure(lambda t: tf.gather(t, chosen, batch_dims=1), both)


def _still_searching(search: _Search, state: _State) -> tf.Tensor:
    """`<bool>[batch]`: whether the best hypothesis may yet become better than a finished one."""
    full = tf.reduce_all(state.finished.real, axis=1)
    searching = state.searching & (state.count < search.prompts.budget)
    searching &= state.running.scores[:, 0] > _NOTHING / 2  # else nothing goes on
    if search.beam.early_stopping is True:
        return searching & ~full
    length = tf.fill(tf.shape(search.length_penalty), tf.cast(state.count, tf.float32))
    if search.beam.early_stopping == "never":
        most = tf.cast(search.prompts.budget, tf.float32)
        length = tf.where(search.length_penalty > 0.0, most, length)
    best = state.running.scores[:, 0] / length**search.length_penalty
    worst = tf.reduce_min(state.finished.scores, axis=1)
    return searching & (~full | (best > worst))


def _best(finished: _Finished, beam: Beam) -> tuple[tf.RaggedTensor, tf.Tensor]:
    count = beam.num_returned
    kept = tf.nest.map_structure(lambda t: t[:, :count], finished)
    tokens = tf.reshape(kept.tokens, [-1, tf.shape(kept.tokens)[2]])
    lengths = tf.reshape(tf.where(kept.real, kept.lengths, 0), [-1])
    rows = tf.shape(finished.scores, out_type=tf.int64)[0]
    ids = tf.RaggedTensor.from_tensor(tokens, lengths=lengths)
    return tf.RaggedTensor.from_uniform_row_length(
        ids, count, nrows=rows, validate=False
    ), kept.scores
