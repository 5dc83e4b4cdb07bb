"""Masks for masked language modelling. Importing it imports no TensorFlow."""

from tfllm.data.masking.masked_tokens import MaskedTokens
from tfllm.data.masking.masking import Masking, MaskUnit

__all__ = ["MaskUnit", "MaskedTokens", "Masking"]
