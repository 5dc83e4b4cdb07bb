"""Retrieval: vectors of a corpus on disk, and indexes. It imports nothing of tfllm but errors."""

from tfllm.retrieval.bm25 import Bm25
from tfllm.retrieval.corpus_vectors import embed_corpus
from tfllm.retrieval.faiss_index import FaissIndex, FaissKind
from tfllm.retrieval.hard_negatives import mine_hard_negatives
from tfllm.retrieval.numpy_search import exact_search
from tfllm.retrieval.vector_file import write_vectors

__all__ = [
    "Bm25",
    "FaissIndex",
    "FaissKind",
    "embed_corpus",
    "exact_search",
    "mine_hard_negatives",
    "write_vectors",
]
