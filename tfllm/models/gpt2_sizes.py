"""What a GPT-2 may be asked for, checked before TensorFlow is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfllm.models import checkpoint_files

if TYPE_CHECKING:
    from transformers import GPT2Config

__all__ = ["positions_of_pretrained", "small_gpt2_config"]


def positions_of_pretrained(name_or_folder: str | Path) -> int:
    """Positions of a GPT-2 checkpoint, seen to have weights without reading them.

    Raises:
        InputError: if it is none, or has no weights.
    """
    config = checkpoint_files.read_config(name_or_folder, "gpt2")
    checkpoint_files.check_weights(name_or_folder)
    return config.get("n_positions", 1024)


def small_gpt2_config(
    tokenizer: Any,
    *,
    positions: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    dropout: float,
) -> GPT2Config:
    """Describe a GPT-2 from scratch for a tokenizer's vocabulary, with one dropout everywhere.

    Args:
        tokenizer: a `tfllm.text.Tokenizer`.
        positions: tokens of the longest row.
        num_layers: blocks.
        num_heads: attention heads of each block.
        hidden_dim: width.
        dropout: share of embeddings, attention weights and projections that training zeroes.
    """
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=tokenizer.vocabulary_size,
        n_positions=positions,
        n_embd=hidden_dim,
        n_layer=num_layers,
        n_head=num_heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
    )
