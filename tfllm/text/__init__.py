"""Tokenizers whose ids equal Hugging Face's, in graph.

Names are imported when they are first used, so that `import tfllm.text` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.text.byte_level_bpe import ByteLevelBPE
    from tfllm.text.byte_level_training import train_byte_level_bpe
    from tfllm.text.loading import load
    from tfllm.text.preprocessor import Preprocessor
    from tfllm.text.tokenizer import Tokenizer
    from tfllm.text.vocabulary import Vocabulary, extend, sources_of

__all__ = [
    "ByteLevelBPE",
    "Preprocessor",
    "Tokenizer",
    "Vocabulary",
    "extend",
    "load",
    "sources_of",
    "train_byte_level_bpe",
]

_HOMES = {
    "ByteLevelBPE": "byte_level_bpe",
    "Preprocessor": "preprocessor",
    "Tokenizer": "tokenizer",
    "Vocabulary": "vocabulary",
    "extend": "vocabulary",
    "load": "loading",
    "sources_of": "vocabulary",
    "train_byte_level_bpe": "byte_level_training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
