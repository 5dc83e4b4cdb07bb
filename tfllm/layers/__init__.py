"""Pieces that models are made of: activations, and later heads, pooling, CRF, LoRA."""
