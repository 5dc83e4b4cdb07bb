"""A small BERT from scratch, described before TensorFlow is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import BertConfig

__all__ = ["small_bert_config"]


def small_bert_config(
    tokenizer: Any,
    *,
    positions: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    dropout: float,
) -> BertConfig:
    """Describe a BERT from scratch for a tokenizer's vocabulary, with one dropout everywhere.

    Args:
        tokenizer: a `tfllm.text.Tokenizer`.
        positions: tokens of the longest row.
        num_layers: blocks.
        num_heads: attention heads of each block.
        hidden_dim: width; the blocks' inner width is four times as much.
        dropout: share of embeddings, attention weights and projections that training zeroes.
    """
    from transformers import BertConfig

    return BertConfig(
        vocab_size=tokenizer.vocabulary_size,
        max_position_embeddings=positions,
        hidden_size=hidden_dim,
        intermediate_size=4 * hidden_dim,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_id,
    )
