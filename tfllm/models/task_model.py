"""What every model with a task's head has in common: one forward pass, then loss or decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras
from transformers import TFPreTrainedModel

from tfllm.models.backbones import hidden_states
from tfllm.training.step import SummedLossModel

__all__ = ["TaskModel"]


class TaskModel(SummedLossModel):
    """A backbone with a head: features → logits → a loss to train by, or what a caller wants.

    Features are `<int32>[batch, tokens]`: `input_ids`, `attention_mask` (1 real, 0 padding; all
    real without it), and `token_type_ids` where the backbone knows them. A batch for `fit` is
    `(features, targets, weights)`.

    A subclass gives `logits_of`, `loss_of` and `decode`, so that a validation pass has loss and
    predictions out of one forward pass.
    """

    def __init__(
        self, backbone: TFPreTrainedModel, *, seed: int = 0, name: str | None = None
    ) -> None:
        """Take a backbone, as it is and not copied.

        Args:
            backbone: a TF model of transformers without a head, built or not.
            seed: decides dropout, together with the optimizer's step.
            name: of the Keras model.
        """
        super().__init__(seed=seed, name=name)
        if not backbone.built:
            backbone.build_in_name_scope()
        self.backbone = backbone
        self.config = backbone.config

    def logits_of(
        self,
        hidden: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Turn the backbone's last states `<float>[batch, tokens, hidden_dim]` into logits."""
        raise NotImplementedError

    def loss_of(
        self,
        logits: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        targets: tf.Tensor,
        weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the loss, and the weight to divide it by: `<float32>[]` each."""
        raise NotImplementedError

    def decode(self, logits: tf.Tensor, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Turn logits into predictions; every tensor's first dimension is the batch."""
        raise NotImplementedError

    def call(self, features: Any, training: bool = False) -> tf.Tensor:
        """Return the logits, `<float32>`."""
        seed = None
        if training and getattr(self, "optimizer", None) is not None:
            seed = self._dropout_seed(0)
        return self.forward(features, training=training, dropout_seed=seed)

    def forward(
        self,
        features: Any,
        *,
        inputs_embeds: tf.Tensor | None = None,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Compute the logits, from word embeddings in place of ids if these are given."""
        if not isinstance(features, Mapping):
            features = {"input_ids": tf.convert_to_tensor(features)}
        hidden = hidden_states(
            self.backbone,
            features,
            inputs_embeds=inputs_embeds,
            training=training,
            dropout_seed=dropout_seed,
        )
        return self.logits_of(hidden, features, training=training, dropout_seed=dropout_seed)

    def loss_sum_and_weight(
        self,
        features: Any,
        targets: tf.Tensor,
        weights: tf.Tensor,
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the loss of a batch; see `SummedLossModel`."""
        logits = self.forward(features, training=training, dropout_seed=dropout_seed)
        return self.loss_of(logits, features, targets, weights)

    def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Give `predict` the decoded rows."""
        features, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.decode(self.forward(features), features)
