"""Settings that can't be meant, refused before anything runs.

What is known only inside a graph is not looked at here: there the ranges are those of the maths,
and `Sampling`, `Rules` and `StopStrings` say what comes of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation.beam import Beam
from tfllm.generation.id_rows import id_rows
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings

__all__ = [
    "MOST_BEAMS",
    "check_beam",
    "check_budget",
    "check_ids",
    "check_one_mode",
    "check_rows",
    "check_rules",
    "check_sampling",
    "check_words",
]

# Each beam is a row of the batch, with a cache of its own.
MOST_BEAMS = 256


def check_sampling(sampling: Sampling | None) -> None:
    """Refuse temperatures, counts and probabilities that are none.

    Raises:
        InputError: naming the setting and what was received.
    """
    if sampling is None:
        return
    _check_kind("sampling", sampling, Sampling)
    _check_numbers("temperature", sampling.temperature, least=0.0)
    _check_numbers("top_k", sampling.top_k, least=0, whole=True)
    _check_numbers("top_p", sampling.top_p, least=0.0, most=1.0)
    _check_numbers("min_p", sampling.min_p, least=0.0, most=1.0)
    _check_numbers("seed", sampling.seed, whole=True, bits=64)


def check_rules(rules: Rules | None, max_new_tokens: int | tf.Tensor) -> None:
    """Refuse penalties, counts and ids that are none.

    Raises:
        InputError: naming the rule and what was received.
    """
    if rules is None:
        return
    _check_kind("rules", rules, Rules)
    _check_numbers("repetition_penalty", rules.repetition_penalty, above=0.0)
    _check_numbers("presence_penalty", rules.presence_penalty)
    _check_numbers("frequency_penalty", rules.frequency_penalty)
    _check_numbers("no_repeat_ngram_size", rules.no_repeat_ngram_size, least=0, whole=True)
    _check_numbers("min_new_tokens", rules.min_new_tokens, least=0, whole=True)
    if isinstance(rules.min_new_tokens, int) and isinstance(max_new_tokens, int):
        if rules.min_new_tokens > max_new_tokens:
            raise InputError(
                f"min_new_tokens must not exceed max_new_tokens. Received: "
                f"min_new_tokens={rules.min_new_tokens}, max_new_tokens={max_new_tokens}"
            )
    for place, sequence in enumerate(_id_rows(rules.bad_words)):
        if not sequence:
            raise InputError(
                f"bad_words must hold sequences of ids, and number {place} is empty. Leave it out."
            )


def check_beam(beam: Beam) -> None:
    """Refuse a beam of no width or of thousands, or of which more is asked than it holds.

    Raises:
        InputError: naming the setting and what was received.
    """
    _check_kind("beam", beam, Beam)
    _check_numbers("num_beams", beam.num_beams, least=1, most=MOST_BEAMS, whole=True)
    _check_numbers("num_returned", beam.num_returned, least=1, whole=True)
    _check_numbers("length_penalty", beam.length_penalty)
    if beam.num_returned > beam.num_beams:
        raise InputError(
            f"num_returned must not exceed num_beams. Received: num_returned={beam.num_returned}, "
            f"num_beams={beam.num_beams}"
        )
    if beam.early_stopping not in (True, False, "never"):
        raise InputError(
            f'early_stopping must be True, False or "never". Received: {beam.early_stopping!r}'
        )


def check_one_mode(sampling: Sampling | None, beam: Beam | None) -> None:
    """Refuse a search for the likeliest that is also to draw.

    Raises:
        InputError: if both are given.
    """
    if sampling is not None and beam is not None:
        raise InputError(
            f"a beam search takes no sampling: give one of beam and sampling. Received: {beam} and "
            f"{sampling}"
        )


def check_budget(max_new_tokens: int | tf.Tensor) -> None:
    """Refuse to make fewer than no tokens.

    Raises:
        InputError: saying what was received.
    """
    _check_numbers("max_new_tokens", max_new_tokens, least=0, whole=True)


def check_rows(
    rows: int,
    max_new_tokens: int | tf.Tensor,
    sampling: Sampling | None = None,
    rules: Rules | None = None,
    beam: Beam | None = None,
    stop: StopStrings | None = None,
) -> None:
    """Refuse settings that are given for each row, and for another number of them.

    Args:
        rows: of the batch.
        max_new_tokens: see `decode`, and `beam_search` for the rest.
        sampling: see there.
        rules: see there; `bad_words` are for all rows.
        beam: see there.
        stop: see there.

    Raises:
        InputError: naming the setting.
    """
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    for name, chosen, kind in (("sampling", sampling, Sampling), ("rules", rules, Rules)):
        if chosen is not None:
            _check_kind(name, chosen, kind)
            settings |= chosen._asdict()
    settings.pop("bad_words", None)  # for all rows
    prefixes = len(_id_rows(settings.pop("forced_prefix", None)))
    if beam is not None:
        settings["length_penalty"] = beam.length_penalty
    lengths = {name: _length(setting) for name, setting in settings.items()}
    lengths["forced_prefix"] = prefixes or None
    if stop is not None and len(np.shape(stop.stops)) == 2:
        lengths["stop"] = _length(stop.stops)
    for name, length in lengths.items():
        if length not in (None, 1, rows):
            raise InputError(
                f"{name} must be one for all rows, or one for each of the {rows}. "
                f"Received: {length}"
            )


def _length(setting: Any) -> int | None:
    """For how many rows a setting is given; None for all, or where that is known only later."""
    if tf.is_symbolic_tensor(setting) or not np.ndim(setting):
        return None
    return len(setting)


def check_ids(input_ids: tf.RaggedTensor, words: int) -> None:
    """Refuse prompts with ids that the model has no word for; on a GPU they would read as zeros.

    Args:
        input_ids: `<int>[rows, (positions)]`.
        words: of the model.

    Raises:
        InputError: naming the prompt and the id.
    """
    ids = input_ids.flat_values.numpy()
    strange = np.flatnonzero((ids < 0) | (ids >= words))
    if len(strange):
        row = int(np.searchsorted(input_ids.row_splits.numpy(), strange[0], "right")) - 1
        raise InputError(
            f"prompt {row} must be of the model's {words} words, 0 to {words - 1}. Received: "
            f"{ids[strange[0]]}"
        )


def check_words(
    words: int | None, eos_id: int | tf.Tensor | None, rules: Rules | None = None
) -> None:
    """Refuse ids that the model has no word for.

    Args:
        words: how many it has; None where that is not known.
        eos_id: ends a row.
        rules: whose `bad_words` and `forced_prefix` are looked through.

    Raises:
        InputError: naming the id.
    """
    if words is None:
        return
    ids: list[tuple[str, int]] = []
    if eos_id is not None and (known := _known(eos_id, "eos_id")) is not None:
        if known.dtype.kind not in "iu" or np.ndim(eos_id):
            raise InputError(f"eos_id must be one id, a whole number. Received: {eos_id!r}")
        ids += [("eos_id", int(i)) for i in known]
    if rules is not None:
        for name in ("bad_words", "forced_prefix"):
            ids += [(name, i) for row in _id_rows(getattr(rules, name)) for i in row]
    for name, i in ids:
        if not 0 <= i < words:
            raise InputError(
                f"{name} must be of the model's {words} words, 0 to {words - 1}. Received: {i}"
            )


def _check_kind(name: str, given: Any, kind: type) -> None:
    if not isinstance(given, kind):
        raise InputError(f"{name} must be a {kind.__name__}. Received: {given!r:.60}")


def _check_numbers(
    name: str,
    setting: Any,
    *,
    least: float = -np.inf,
    most: float = np.inf,
    above: float = -np.inf,
    whole: bool = False,
    bits: int = 32,
) -> None:
    numbers = _known(setting, name)
    if numbers is None:
        return
    rule = _range(least, most, above, whole)
    # Written so that what is no number fails.
    right = np.isfinite(numbers) & (numbers >= least) & (numbers <= most) & (numbers > above)
    if not whole and right.all():
        right = np.abs(numbers) <= float(tf.float32.max)
        rule = "a number of 32 bits, at most 3.4e38"
    if whole:
        right &= numbers == np.floor(numbers)
        if right.all():
            right = (numbers < 2 ** (bits - 1)) & (numbers >= -(2 ** (bits - 1)))
            rule = f"a whole number of {bits} bits, below 2 to the {bits - 1}"
    if right.all():
        return
    row = int(np.argmin(right))
    where = f" in row {row}" if len(numbers) > 1 else ""
    raise InputError(f"{name} must be {rule}. Received: {numbers[row]}{where}")


def _range(least: float, most: float, above: float, whole: bool) -> str:
    kind = "a whole number" if whole else "a number"
    if most < np.inf:
        return f"{kind} between {least:g} and {most:g}"
    if least > -np.inf:
        return f"{kind} of at least {least:g}"
    return f"{kind} above {above:g}" if above > -np.inf else f"{kind}, and finite"


def _known(setting: Any, name: str) -> np.ndarray | None:
    """The numbers of a setting, `[rows or 1]`; None where they are known only in the graph."""
    if tf.is_symbolic_tensor(setting):
        return None
    numbers = np.atleast_1d(np.asarray(setting))
    if numbers.dtype.kind not in "fiu" or numbers.ndim > 1:
        raise InputError(
            f"{name} must be a number, or a number for each row. Received: {setting!r}"
        )
    return numbers


def _id_rows(ids: Any) -> Sequence[Sequence[int]]:
    """The rows of `[n, (ids)]`, as far as they are known; a flat list is one row."""
    if ids is None or tf.is_symbolic_tensor(getattr(ids, "flat_values", ids)):
        return []
    if isinstance(
        ids, Sequence
    ):  # of any length, so that the rest of the checks names what is wrong
        rows = list(ids)
        return [[*row] for row in rows] if not rows or hasattr(rows[0], "__len__") else [rows]
    return id_rows(ids).to_list()
