"""Generation: loops over a pre-allocated cache, and how the next token is chosen.

Importing it imports TensorFlow.
"""

from tfllm.generation.beam import Beam
from tfllm.generation.beam_search import beam_search
from tfllm.generation.decode import Decodable, decode
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings
from tfllm.generation.stream import stream
from tfllm.generation.stream_functions import StreamFunctions

__all__ = [
    "Beam",
    "Decodable",
    "Rules",
    "Sampling",
    "StopStrings",
    "StreamFunctions",
    "beam_search",
    "decode",
    "stream",
]
