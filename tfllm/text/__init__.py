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
    from tfllm.text.sentencepiece import SentencePiece
    from tfllm.text.tokenizer import Tokenizer
    from tfllm.text.vocabulary import Vocabulary, extend, sources_of
    from tfllm.text.wordpiece import WordPiece
    from tfllm.text.wordpiece_extension import extend_wordpiece
    from tfllm.text.wordpiece_training import train_wordpiece

__all__ = [
    "ByteLevelBPE",
    "Preprocessor",
    "SentencePiece",
    "Tokenizer",
    "Vocabulary",
    "WordPiece",
    "extend",
    "extend_wordpiece",
    "load",
    "sources_of",
    "train_byte_level_bpe",
    "train_wordpiece",
]

_HOMES = {
    "ByteLevelBPE": "byte_level_bpe",
    "Preprocessor": "preprocessor",
    "SentencePiece": "sentencepiece",
    "Tokenizer": "tokenizer",
    "Vocabulary": "vocabulary",
    "WordPiece": "wordpiece",
    "extend": "vocabulary",
    "extend_wordpiece": "wordpiece_extension",
    "load": "loading",
    "sources_of": "vocabulary",
    "train_byte_level_bpe": "byte_level_training",
    "train_wordpiece": "wordpiece_training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
