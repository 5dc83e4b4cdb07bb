"""The traced functions behind `CausalLM.generate`, `stream` and `score`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfllm.generation.stream_functions import StreamFunctions
from tfllm.models.generation_request import GenerationRequest

__all__ = ["GenerationFunctions"]


class GenerationFunctions:
    """One traced function for each mode of generating: which settings there are, and not what.

    They read the model's weights where they are, and go through the layers that it had when they
    were traced: `fit` says whether it still has them.

    Attributes:
        stream: the functions of `generation.stream`.
        traces: how many others were traced so far.
    """

    def __init__(self, model: Any, layers: Sequence[Any]) -> None:
        """Trace nothing yet.

        Args:
            model: a `CausalLM`.
            layers: those of its layers that may be exchanged, for adapters say.
        """
        self._model = model
        self._layers = tuple(layers)
        self._generate: dict[Any, Any] = {}
        self.stream = StreamFunctions(model)
        self.traces = 0
        ids = tf.TensorSpec([None, None], tf.int32)
        lengths = tf.TensorSpec([None], tf.int32)
        self.score = tf.function(self._score, input_signature=[ids, lengths], autograph=False)

    def fit(self, layers: Sequence[Any]) -> bool:
        """Whether these are the layers that the functions were made with."""
        return len(layers) == len(self._layers) and all(
            a is b for a, b in zip(layers, self._layers, strict=True)
        )

    def generate(self, request: GenerationRequest) -> tf.RaggedTensor:
        """Do what `request.run` does, in a graph."""
        request = request.as_tensors()
        mode = tf.nest.map_structure(_spec, request)
        if mode not in self._generate:
            self._generate[mode] = self._traced(mode)
        return self._generate[mode](request)

    def _traced(self, mode: GenerationRequest) -> Any:
        @tf.function(autograph=False)
        def generate(request: GenerationRequest) -> tf.RaggedTensor:
            self.traces += 1
            return request.run(self._model)

        return generate.get_concrete_function(mode)

    def _score(self, input_ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        self.traces += 1
        return self._model.token_log_likelihoods(input_ids, lengths)


def _spec(leaf: Any) -> Any:
    """What is known of a setting before the graph runs: of a tensor its type and its rank."""
    if isinstance(leaf, tf.RaggedTensor):
        return tf.RaggedTensorSpec([None] * leaf.shape.rank, leaf.dtype, leaf.ragged_rank)
    if tf.is_tensor(leaf):
        return tf.TensorSpec([None] * leaf.shape.rank, leaf.dtype)
    return leaf
