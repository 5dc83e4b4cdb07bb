"""What the loops of this room ask of a model."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

__all__ = ["Decodable"]


class Decodable(Protocol):
    """What a loop asks of a model. A cache is any nest of tensors `[batch, …, columns, …]`."""

    @property
    def max_positions(self) -> int:
        """Positions that a row may have, prompt and new tokens together."""
        ...

    def read_prompt(
        self, input_ids: tf.Tensor, attention_mask: tf.Tensor, columns: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Run left-padded prompts `[batch, positions]`.

        Returns:
            logits of what comes next `<float32>[batch, words]`, and a cache with room for
            `columns` columns, of which the prompt fills the first.
        """
        ...

    def read_token(
        self,
        token: tf.Tensor,
        position: tf.Tensor,
        visible: tf.Tensor,
        cache: Any,
        column: tf.Tensor,
    ) -> tuple[tf.Tensor, Any]:
        """Run one more token of each row, `<int32>[batch, 1]`, into `column` of the cache.

        `position` is `<int32>[batch, 1]`, `visible` is `<bool>[batch, columns]`.

        Returns:
            logits of what comes next `<float32>[batch, words]`, and the cache.
        """
        ...
