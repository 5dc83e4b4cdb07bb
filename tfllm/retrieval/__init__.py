"""Retrieval: vectors of a corpus on disk. It imports nothing of tfllm but errors."""

from tfllm.retrieval.vector_file import write_vectors

__all__ = ["write_vectors"]
