"""The last layer of models that say something of each token."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras
from transformers import TFPreTrainedModel

__all__ = ["token_head"]


def token_head(backbone: TFPreTrainedModel, width: int, name: str) -> keras.layers.Dense:
    """Build a projection of states, `<float32>[batch, tokens, hidden_dim]`, under every policy.

    Args:
        backbone: whose states, and whose spread of initial weights.
        width: numbers for each token.
        name: PyTorch's name of the layer.
    """
    spread = getattr(backbone.config, "initializer_range", 0.02)
    layer = keras.layers.Dense(
        width,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=spread),
        name=name,
        dtype="float32",
    )
    with tf.name_scope(name):
        layer.build([None, None, backbone.config.hidden_size])
    return layer
