"""XLNet's forward pass: the content stream, which is all that understanding a text needs.

Reference:
    Yang et al., XLNet, 2019, arXiv:1906.08237; Dai et al., Transformer-XL, 2019, arXiv:1901.02860
    (relative positions).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras
from transformers import TFXLNetModel

from tfllm.errors import InputError
from tfllm.layers.attention import HIDDEN_KEY, mix_values
from tfllm.layers.dropout import SeededDropout
from tfllm.models.backbones.family import Family
from tfllm.models.backbones.post_norm import activate, check_heads, norm, project, visible_pairs

__all__ = ["create", "encode"]

_DRAWN = ("q", "k", "v", "o", "r", "seg_embed")


def create(family: Family, config: Any) -> Any:
    """Build a backbone with random weights; see `post_norm.create`.

    Raises:
        InputError: if the configuration asks for what is not computed here.
    """
    check_heads(config)
    if config.attn_type != "bi" or config.bi_data:
        raise InputError(
            "XLNet is supported with attn_type='bi' and bi_data=False alone. Received: "
            f"attn_type={config.attn_type!r}, bi_data={config.bi_data}"
        )
    with warnings.catch_warnings():
        # transformers draws all matrices of a block by one initializer, which gives each the same
        # numbers, as Keras warns; and uses a layer that it no longer wants.
        warnings.filterwarnings("ignore", message="The initializer")
        warnings.filterwarnings("ignore", message=".*TFSharedEmbeddings", category=Warning)
        backbone = TFXLNetModel(config, name="xlnet_model")
        backbone.build_in_name_scope()
    for block in backbone.transformer.layer:
        for name in _DRAWN:
            variable = getattr(block.rel_attn, name)
            draw = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
            variable.assign(draw(variable.shape, variable.dtype))
    return backbone


def encode(
    family: Family,
    backbone: Any,
    features: Mapping[str, tf.Tensor],
    inputs_embeds: tf.Tensor | None,
    training: bool,
    dropout_seed: tf.Tensor | None,
) -> tf.Tensor:
    """Run each row through the blocks; see `post_norm.encode`.

    Tokens see each other both ways. Positions are distances, so `position_ids` are not read and
    padding may be on any side. The distances' embeddings lose the same units in all rows of a
    batch to dropout.
    """
    main, config = backbone.transformer, backbone.config
    dropout = SeededDropout.when(training, dropout_seed)
    if inputs_embeds is None:
        inputs_embeds = tf.gather(main.word_embedding.weight, features["input_ids"])
    x = tf.cast(inputs_embeds, main.compute_dtype)
    length = x.shape[1] or tf.shape(x)[1]
    distances = tf.cast(_distance_embeddings(length, config), x.dtype)
    if dropout:
        x = dropout(x, config.dropout, site=0)
        distances = dropout(distances, config.dropout, site=1)
    penalty, foreign = _penalty(features, length), _foreign(features)
    for i, block in enumerate(main.layer):
        attended = _attention(block.rel_attn, x, distances, penalty, foreign, config, i, dropout)
        x = norm(block.rel_attn.layer_norm, attended + x)
        x = norm(block.ff.layer_norm, _feed_forward(family, block, x, config, i, dropout) + x)
    return dropout(x, config.dropout, site=2) if dropout else x


def _distance_embeddings(length: Any, config: Any) -> tf.Tensor:
    """Sines and cosines of the distances `length … 1 − length`, `<float32>[2 · length, dim]`."""
    distances = tf.cast(tf.range(length, -length, -1), tf.float32)
    if config.clamp_len > 0:
        distances = tf.clip_by_value(distances, -config.clamp_len, config.clamp_len)
    exponents = tf.range(0, config.d_model, 2, dtype=tf.float32) / config.d_model
    angles = distances[:, None] * tf.pow(10000.0, -exponents)
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)


def _penalty(features: Mapping[str, tf.Tensor], length: Any) -> tf.Tensor | None:
    """`<float32>[batch, 1, queries, keys]`; a token always sees itself."""
    visible = visible_pairs(features)
    if visible is None:
        return None
    visible |= tf.eye(length, dtype=tf.bool)
    return tf.where(visible, 0.0, HIDDEN_KEY)[:, None]


def _foreign(features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
    """Whether query and key are of different texts, `<bool>[batch, 1, queries, keys]`."""
    kinds = features.get("token_type_ids")
    return None if kinds is None else (kinds[:, :, None] != kinds[:, None, :])[:, None]


def _attention(
    attention: Any,
    x: tf.Tensor,
    distances: tf.Tensor,
    penalty: tf.Tensor | None,
    foreign: tf.Tensor | None,
    config: Any,
    index: int,
    dropout: SeededDropout | None,
) -> tf.Tensor:
    """Attention by content, distance and text, `[batch, tokens, dim]` → the same."""
    query = _heads(x, attention.q)

    def scores_of(bias: tf.Variable, keys: tf.Tensor) -> tf.Tensor:
        moved = query + tf.cast(bias, query.dtype)[:, None]
        return tf.cast(tf.matmul(moved, keys, transpose_b=True), tf.float32)

    scores = scores_of(attention.r_w_bias, _heads(x, attention.k))
    scores += _shift(scores_of(attention.r_r_bias, _heads(distances[None], attention.r)))
    if foreign is not None:
        kinds = tf.cast(tf.transpose(attention.seg_embed, [1, 0, 2]), query.dtype)[None]
        by_kind = scores_of(attention.r_s_bias, kinds)
        scores += tf.where(foreign, by_kind[..., 1:], by_kind[..., :1])
    scores *= 1.0 / math.sqrt(config.d_head)
    if penalty is not None:
        scores -= penalty
    kept, rate = None, config.dropout
    if dropout and rate > 0.0:
        kept = dropout.mask(tf.shape(scores), rate, site=5 * index + 3)
    mixed = mix_values(scores, _heads(x, attention.v), kept, rate)
    attended = tf.einsum("bntd,hnd->bth", mixed, tf.cast(attention.o, mixed.dtype))
    return dropout(attended, rate, site=5 * index + 4) if dropout else attended


def _heads(x: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
    """Project `[batch, tokens, dim]` by `[dim, heads, head_dim]` to `[batch, heads, tokens, …]`."""
    return tf.einsum("bth,hnd->bntd", x, tf.cast(kernel, x.dtype))


def _shift(by_distance: tf.Tensor) -> tf.Tensor:
    """Pick, for each query and key, the score of their distance.

    Args:
        by_distance: `<float>[batch, heads, tokens, 2 · tokens]`; column c is distance tokens − c.

    Returns:
        `<float>[batch, heads, queries, keys]`, the column of `query − key` of each pair.

    Example:
        Of 2 tokens, columns 2 1 0 −1: row 0 takes 0 −1, row 1 takes 1 0.
    """
    shape = tf.shape(by_distance)
    batch, heads, tokens = shape[0], shape[1], shape[2]
    # One step to the left for each row: the numbers are read on in rows that are one shorter.
    turned = tf.reshape(by_distance, [batch, heads, 2 * tokens, tokens])[:, :, 1:]
    return tf.reshape(turned, [batch, heads, tokens, 2 * tokens - 1])[..., :tokens]


def _feed_forward(
    family: Family,
    block: Any,
    x: tf.Tensor,
    config: Any,
    index: int,
    dropout: SeededDropout | None,
) -> tf.Tensor:
    flat = tf.reshape(x, [-1, config.d_model])
    wide = project(family.part(block, "widen"), flat, dropout, site=2 * index)
    wide = activate(config.ff_activation, wide, dropout)
    if dropout:
        wide = dropout(wide, config.dropout, site=5 * index + 5)
    narrow = project(family.part(block, "narrow"), wide, dropout, site=2 * index + 1)
    if dropout:
        narrow = dropout(narrow, config.dropout, site=5 * index + 6)
    return tf.reshape(narrow, tf.shape(x))
