"""GPT-2 as an encoder: `tfllm.models.gpt2` behind the face that all backbones have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfllm.models import gpt2
from tfllm.models.backbones.family import Family

__all__ = ["create", "encode"]


def create(family: Family, config: Any) -> Any:
    """Build one; see `gpt2.create_backbone`."""
    return gpt2.create_backbone(config)


def encode(
    family: Family,
    backbone: Any,
    features: Mapping[str, tf.Tensor],
    inputs_embeds: tf.Tensor | None,
    training: bool,
    dropout_seed: tf.Tensor | None,
) -> tf.Tensor:
    """Run each row through the blocks; see `post_norm.encode`."""
    return gpt2.hidden_states(
        backbone,
        features["input_ids"] if inputs_embeds is None else None,
        inputs_embeds=inputs_embeds,
        attention_mask=features.get("attention_mask"),
        position_ids=features.get("position_ids"),
        segment_ids=features.get("segment_ids"),
        training=training,
        dropout_seed=dropout_seed,
    )
