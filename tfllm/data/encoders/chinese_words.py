"""Chinese words, which no space parts."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from tfllm.data.readers.extras import import_extra

__all__ = ["chinese_word_starts", "check_chinese_words"]


def check_chinese_words() -> str:
    """See that jieba is installed; give its version.

    Raises:
        InputError: if it is not.
    """
    return str(_jieba().__version__)


def chinese_word_starts(text: str) -> np.ndarray:
    """Where jieba begins a word, `<bool>[characters + 1]`; the text's end counts as a beginning.

    Example:
        "房间很大" → 房间, 很大 → 1 0 1 0 1.
    """
    lengths = [len(word) for word in _segmenter().cut(text)]
    starts = np.zeros(len(text) + 1, bool)
    starts[np.cumsum([0, *lengths])] = True
    return starts


def _jieba() -> Any:
    with warnings.catch_warnings():  # it asks setuptools for its files, which warns
        warnings.simplefilter("ignore")
        return import_extra("jieba", "chinese", "parting Chinese text into words")


@cache
def _segmenter() -> Any:
    """The one of this process, with jieba's own dictionary."""
    segmenter = _jieba().Tokenizer()
    # By itself it would print what it does, and share a file with everybody in /tmp.
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter
