"""One forward pass for every family of backbones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
from transformers import PretrainedConfig, TFPreTrainedModel

from tfllm.models.backbones.families import family_of
from tfllm.models.backbones.family import follow

__all__ = ["Traits", "create_backbone", "hidden_states", "traits", "word_embeddings"]


class Traits(NamedTuple):
    """What a head needs to know of a backbone.

    Attributes:
        hidden_dim: width of the states.
        max_tokens: that a row may have; `sys.maxsize` where there is no limit.
        token_types: whether it tells a first text from a second one.
        causal: whether a token sees only what stands before it.
        summary: which token stands for the row, "first" or "last" (the last real one).
    """

    hidden_dim: int
    max_tokens: int
    token_types: bool
    causal: bool
    summary: str


def traits(backbone: TFPreTrainedModel | PretrainedConfig) -> Traits:
    """Say what a head needs to know of a backbone, or of its configuration.

    Raises:
        InputError: if the family is unknown.
    """
    family, config = family_of(backbone), getattr(backbone, "config", backbone)
    positions = config.max_position_embeddings
    if family.from_padding:
        positions -= config.pad_token_id + 1
    return Traits(
        hidden_dim=config.hidden_size,
        max_tokens=positions if positions > 0 else sys.maxsize,
        token_types=family.token_types and getattr(config, "type_vocab_size", 2) > 1,
        causal=family.causal,
        summary=family.summary,
    )


def create_backbone(config: PretrainedConfig) -> TFPreTrainedModel:
    """Build a backbone with the random weights that its transformers class begins with.

    Repeatable after `keras.utils.set_random_seed`.

    Raises:
        InputError: if the family is unknown, or the configuration asks for what is not computed.
    """
    family = family_of(config)
    return family.create(family, config)


def hidden_states(
    backbone: TFPreTrainedModel,
    features: Mapping[str, tf.Tensor],
    *,
    inputs_embeds: tf.Tensor | None = None,
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Run each row through the backbone.

    Args:
        backbone: a TF model of transformers without a head, built.
        features: `<int32>[batch, tokens]` each: `input_ids`; `attention_mask`, 1 for real tokens
            and 0 for padding, all real without it; `token_type_ids`, read only where the backbone
            knows them; `position_ids`; `segment_ids`, where tokens see only their own segment.
        inputs_embeds: `<float>[batch, tokens, dim]`, in place of `input_ids`; positions and token
            types are added to them.
        training: whether dropout acts.
        dropout_seed: `<int64>[2]`, another for each step; without one, dropout draws from
            `tf.random`.

    Returns:
        `<float>[batch, tokens, hidden_dim]`, in the backbone's compute dtype. At padding the
        numbers are finite and mean nothing.
    """
    family = family_of(backbone)
    return family.forward(family, backbone, features, inputs_embeds, training, dropout_seed)


def word_embeddings(backbone: TFPreTrainedModel, input_ids: tf.Tensor) -> tf.Tensor:
    """Look words up: `<int32>[batch, tokens]` → `<float32>[batch, tokens, dim]`."""
    family = family_of(backbone)
    return tf.gather(follow(family.main_layer(backbone), family.words), input_ids)
