"""What is asked of a model that generates, ready for a graph that is traced once."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.generation.beam import Beam
from tfllm.generation.beam_search import beam_search
from tfllm.generation.decodable import Decodable
from tfllm.generation.decode import decode
from tfllm.generation.row_settings import asked
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings

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

    def run(self, model: Decodable) -> tf.RaggedTensor:
        """Generate: `<int32>[batch, (new tokens)]`, or `[batch, num_returned, (new tokens)]`."""
        settings = self._asdict()
        beam, sampling = settings.pop("beam"), settings.pop("sampling")
        if beam is None:
            return decode(model, sampling=sampling, **settings)
        found, _ = beam_search(model, beam=beam, **settings)
        return found.merge_dims(0, 1) if beam.num_returned == 1 else found

    def as_tensors(self) -> GenerationRequest:
        """Make tensors of all numbers but those that ask for nothing.

        What is no tensor then decides the graph: which settings there are, and how wide a beam.
        """
        return self._replace(
            input_ids=self.input_ids.with_row_splits_dtype(tf.int64),
            max_new_tokens=tf.cast(self.max_new_tokens, tf.int32),
            sampling=None if self.sampling is None else _sampling(self.sampling),
            rules=None if self.rules is None else _rules(self.rules),
            beam=None if self.beam is None else _beam(self.beam),
            stop=None if self.stop is None else _stop(self.stop),
            eos_id=None if self.eos_id is None else tf.cast(self.eos_id, tf.int32),
        )


def _sampling(sampling: Sampling) -> Sampling:
    return Sampling(
        temperature=tf.cast(sampling.temperature, tf.float32),
        seed=tf.cast(sampling.seed, tf.int64),
        top_k=_if_asked(sampling.top_k, 0, tf.int32),
        top_p=_if_asked(sampling.top_p, 1, tf.float32),
        min_p=_if_asked(sampling.min_p, 0, tf.float32),
    )


def _rules(rules: Rules) -> Rules:
    return Rules(
        repetition_penalty=_if_asked(rules.repetition_penalty, 1, tf.float32),
        presence_penalty=_if_asked(rules.presence_penalty, 0, tf.float32),
        frequency_penalty=_if_asked(rules.frequency_penalty, 0, tf.float32),
        no_repeat_ngram_size=_if_asked(rules.no_repeat_ngram_size, 0, tf.int32),
        bad_words=_ids(rules.bad_words),
        min_new_tokens=_if_asked(rules.min_new_tokens, 0, tf.int32),
        forced_prefix=_ids(rules.forced_prefix),
    )


def _beam(beam: Beam) -> Beam:
    return beam._replace(length_penalty=tf.cast(beam.length_penalty, tf.float32))


def _stop(stop: StopStrings) -> StopStrings:
    return StopStrings(*(tf.convert_to_tensor(texts, tf.string) for texts in stop))


def _if_asked(setting: Any, neutral: int, dtype: tf.DType) -> Any:
    return tf.cast(setting, dtype) if asked(setting, neutral) else neutral


def _ids(ids: Any) -> Any:
    """`[ids]` or `[rows, (ids)]` as a tensor; None for none."""
    if ids is None or tf.is_tensor(ids) or isinstance(ids, tf.RaggedTensor):
        return ids
    if not len(ids):
        return None
    if hasattr(ids[0], "__len__"):
        return tf.ragged.constant([list(row) for row in ids], tf.int32, ragged_rank=1)
    return tf.constant(ids, tf.int32)
