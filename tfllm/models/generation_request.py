"""What is asked of a model that generates, ready for a graph that is traced once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.generation.beam import Beam
from tfllm.generation.beam_search import beam_search
from tfllm.generation.decode import decode
from tfllm.generation.id_rows import id_rows
from tfllm.generation.row_settings import if_asked, per_row
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling, ready_sampling
from tfllm.generation.stop_strings import StopStrings
from tfllm.models.batch_decoder import BatchDecoder

__all__ = ["GenerationRequest"]


class GenerationRequest(NamedTuple):
    """Prompts and settings of `CausalLM.generate`; see there."""

    input_ids: Any
    max_new_tokens: int | tf.Tensor
    sampling: Sampling | None = None
    rules: Rules | None = None
    beam: Beam | None = None
    stop: StopStrings | None = None
    eos_id: int | tf.Tensor | None = None
    slide: bool = False

    def run(self, model: Any) -> tf.RaggedTensor:
        """Let a `CausalLM` generate.

        Returns:
            `<int32>[batch, (new tokens)]`, or `[batch, num_returned, (new tokens)]`.
        """
        settings = self._asdict()
        beam, sampling = settings.pop("beam"), settings.pop("sampling")
        rows = _rows(self.input_ids) * (1 if beam is None else beam.num_beams)
        decoder = BatchDecoder(model, rows, tf.reduce_max(self.max_new_tokens))
        if beam is None:
            return decode(decoder, sampling=sampling, **settings)
        found, _ = beam_search(decoder, beam=beam, **settings)
        return found.merge_dims(0, 1) if beam.num_returned == 1 else found

    def as_tensors(self) -> GenerationRequest:
        """Make tensors of all numbers but those that ask for nothing, one number for each row.

        What is no tensor then decides the graph: which settings there are, and how wide a beam.
        """
        rows = self.input_ids.nrows()
        return self._replace(
            max_new_tokens=per_row(self.max_new_tokens, tf.int32, rows),
            sampling=ready_sampling(self.sampling, rows),
            rules=None if self.rules is None else _rules(self.rules, rows),
            beam=None if self.beam is None else _beam(self.beam, rows),
            stop=None if self.stop is None else _stop(self.stop),
            eos_id=None if self.eos_id is None else tf.cast(self.eos_id, tf.int32),
        )


def _rows(ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    rows = ids.nrows() if isinstance(ids, tf.RaggedTensor) else tf.shape(ids)[0]
    return tf.cast(rows, tf.int32)


def _rules(rules: Rules, rows: tf.Tensor) -> Rules:
    return Rules(
        repetition_penalty=if_asked(rules.repetition_penalty, 1, tf.float32, rows),
        presence_penalty=if_asked(rules.presence_penalty, 0, tf.float32, rows),
        frequency_penalty=if_asked(rules.frequency_penalty, 0, tf.float32, rows),
        no_repeat_ngram_size=if_asked(rules.no_repeat_ngram_size, 0, tf.int32, rows),
        bad_words=_ids(rules.bad_words),
        min_new_tokens=if_asked(rules.min_new_tokens, 0, tf.int32, rows),
        forced_prefix=_ids(rules.forced_prefix),
    )


def _ids(ids: Any) -> tf.RaggedTensor | None:
    nothing = ids is None or isinstance(ids, Sequence) and not ids
    return None if nothing else id_rows(ids)


def _beam(beam: Beam, rows: tf.Tensor) -> Beam:
    return beam._replace(length_penalty=per_row(beam.length_penalty, tf.float32, rows))


def _stop(stop: StopStrings) -> StopStrings:
    return StopStrings(*(tf.convert_to_tensor(texts, tf.string) for texts in stop))
