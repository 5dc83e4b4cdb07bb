"""What a model from scratch may be asked for, checked before TensorFlow is imported."""

from __future__ import annotations

from tfllm.errors import InputError

__all__ = ["check_sizes"]


def check_sizes(num_layers: int, num_heads: int, hidden_dim: int, dropout: float) -> None:
    """Refuse what no transformer can be.

    Args:
        num_layers: blocks.
        num_heads: attention heads of each block.
        hidden_dim: width, a multiple of `num_heads`.
        dropout: share of activations that training zeroes.

    Raises:
        InputError: naming the flag.
    """
    for name, value in (("num_layers", num_layers), ("num_heads", num_heads)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1. Received: {value}")
    if hidden_dim < 1 or hidden_dim % num_heads:
        raise InputError(
            f"--hidden_dim must be a multiple of --num_heads {num_heads}. Received: {hidden_dim}"
        )
    if not 0 <= dropout < 1:
        raise InputError(f"--dropout must be at least 0 and below 1. Received: {dropout}")
