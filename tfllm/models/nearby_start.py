"""First weights with which a small encoder learns from its neighbours within minutes."""

from __future__ import annotations

import tensorflow as tf
from transformers import TFPreTrainedModel

from tfllm.errors import InputError

__all__ = ["attend_nearby"]


def attend_nearby(backbone: TFPreTrainedModel) -> None:
    """Let each token of a BERT with random weights look at those beside it from the first step.

    Positions begin as sines, as large as the words' vectors, and each block's keys as its queries.
    So tokens attend most to what is like them and near, where random weights attend to all alike
    and first have to find out, for thousands of steps, that neighbours matter. All weights are
    trained afterwards.

    Args:
        backbone: a BERT; its weights are changed.

    Raises:
        InputError: if it is of another family.

    Reference:
        Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762: the sines.
        Trockman and Kolter, Mimetic initialization of self-attention layers, 2023,
        arXiv:2305.09828: products of query and key near the identity.
    """
    if backbone.config.model_type != "bert":
        raise InputError(
            f"attend_nearby is for BERT's layers. Received: {backbone.config.model_type}"
        )
    embeddings = backbone.bert.embeddings
    table = embeddings.position_embeddings
    size = tf.math.reduce_std(embeddings.weight)
    table.assign(size * _sines(*table.shape))
    for block in backbone.bert.encoder.layer:
        attention = block.attention.self_attention
        attention.key.kernel.assign(attention.query.kernel)


def _sines(positions: int, width: int) -> tf.Tensor:
    """Sines and cosines of falling frequency, `<float32>[positions, width]`, mean square 1."""
    pairs = width // 2
    frequencies = 10_000.0 ** (-tf.range(pairs, dtype=tf.float32) / pairs)
    angles = tf.range(positions, dtype=tf.float32)[:, None] * frequencies
    rows = tf.concat([tf.sin(angles), tf.cos(angles)], axis=1)
    return tf.sqrt(2.0) * tf.pad(rows, [[0, 0], [0, width % 2]])
