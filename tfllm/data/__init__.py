"""Data: readers → encoders → store → plan → pipeline. Importing it imports no TensorFlow."""

from tfllm.data.corpus import Corpus, DocumentUnit, read_corpus
from tfllm.data.pipeline import TokenBlocks
from tfllm.data.store import TokenStore, build_store, check_length

__all__ = [
    "Corpus",
    "DocumentUnit",
    "TokenBlocks",
    "TokenStore",
    "build_store",
    "check_length",
    "read_corpus",
]
