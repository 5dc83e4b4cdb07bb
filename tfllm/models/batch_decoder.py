"""A causal language model, ready to read many tokens of a batch of rows."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfllm.models import gpt2

__all__ = ["BatchDecoder"]


class BatchDecoder:
    """Does what a `CausalLM` does in a decode loop (see `generation.decodable.Decodable`), sooner.

    For several rows it holds a copy of the blocks' matrices, so it is made inside the graph of one
    call, before the loop, and ends with it.
    """

    def __init__(self, model: Any, rows: tf.Tensor, tokens: tf.Tensor) -> None:
        """Copy what has to be copied.

        Args:
            model: a `CausalLM`.
            rows: `<int32>[]`, how many there are, each beam one.
            tokens: `<int32>[]`, how many each row gets at most.
        """
        self._model = model
        self._transposed = gpt2.transposed_projections(model.backbone, rows, tokens)

    @property
    def max_positions(self) -> int:
        """Positions that a row may have."""
        return self._model.max_positions

    def read_prompt(
        self, input_ids: tf.Tensor, attention_mask: tf.Tensor, columns: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Run left-padded prompts."""
        return self._model.read_prompt(input_ids, attention_mask, columns)

    def read_token(
        self,
        token: tf.Tensor,
        position: tf.Tensor,
        visible: tf.Tensor,
        cache: Any,
        column: tf.Tensor,
    ) -> tuple[tf.Tensor, Any]:
        """Run one more token of each row."""
        return self._model.read_token(token, position, visible, cache, column, self._transposed)
