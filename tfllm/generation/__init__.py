"""Generation: one decode loop over a pre-allocated cache, and how the next token is chosen.

Importing it imports TensorFlow.
"""

from tfllm.generation.decode import Decodable, decode
from tfllm.generation.sampling import Sampling

__all__ = ["Decodable", "Sampling", "decode"]
