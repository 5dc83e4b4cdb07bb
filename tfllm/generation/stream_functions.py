"""The traced functions behind `stream`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfllm.generation.decodable import Decodable
from tfllm.generation.loop import Settings, State, advance, begin
from tfllm.generation.prompts import Prompts

__all__ = ["StreamFunctions"]


class StreamFunctions:
    """Two traced functions of a model for each mode of decoding: one reads prompts, one steps.

    A mode is which settings there are, not what they are; neither the number of rows nor a length
    belongs to it. Whoever streams more than once keeps one of these beside the model, so that
    nothing is traced twice. The functions read the model's variables where they are.

    Attributes:
        traces: how many functions were traced so far.
        words: of the model, known as soon as anything is traced.
    """

    def __init__(self, model: Decodable) -> None:
        """Trace nothing yet."""
        self._model = model
        self._pairs: dict[Any, tuple[Callable[..., State], Callable[..., State]]] = {}
        self.traces = 0
        self.words: int | None = None

    def of(self, settings: Settings) -> tuple[Callable[..., State], Callable[..., State]]:
        """Give `begin(prompts, settings)` and `advance(prompts, settings, state)`.

        Args:
            settings: tensors, as `stream` makes them; whatever else is in it belongs to the mode.
        """
        mode = _specs(settings)
        if mode not in self._pairs:
            self._pairs[mode] = self._trace(mode)
        return self._pairs[mode]

    def _trace(self, settings: Settings) -> tuple[Callable[..., State], Callable[..., State]]:
        rows, table = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)
        prompts = Prompts(ids=table, mask=table, padding=rows, budget=rows)

        @tf.function(autograph=False)
        def first(prompts: Prompts, settings: Settings) -> State:
            self.traces += 1
            logits, cache = self._model.read_prompt(prompts.ids, prompts.mask, prompts.columns)
            self.words = logits.shape[-1]
            return begin(prompts, settings, logits, cache)

        @tf.function(autograph=False)
        def following(prompts: Prompts, settings: Settings, state: State) -> State:
            self.traces += 1
            return advance(self._model, prompts, settings, state)

        read = first.get_concrete_function(prompts, settings)
        step = following.get_concrete_function(prompts, settings, _specs(read.structured_outputs))
        return read, step


def _specs(nest: Any) -> Any:
    """What is known of each tensor before it runs: its dtype and how many dimensions it has."""
    return tf.nest.map_structure(
        lambda leaf: (
            tf.TensorSpec([None] * leaf.shape.rank, leaf.dtype) if hasattr(leaf, "shape") else leaf
        ),
        nest,
    )
