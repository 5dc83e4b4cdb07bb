"""Retrieval: vectors of a corpus on disk, and indexes. It imports nothing of tfllm but errors."""

from tfllm.retrieval.faiss_index import FaissIndex, FaissKind
from tfllm.retrieval.vector_file import write_vectors

__all__ = ["FaissIndex", "FaissKind", "write_vectors"]
