"""The quality rules that Gopher's corpus was filtered by."""

from __future__ import annotations

from tfllm.data.cleaning.length import Length
from tfllm.data.cleaning.letter_share import LetterShare
from tfllm.data.cleaning.repeated_lines import RepeatedLines
from tfllm.data.cleaning.repeated_phrases import RepeatedPhrases
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.symbols import Symbols
from tfllm.data.cleaning.word_length import WordLength

__all__ = ["gopher_steps"]


def gopher_steps(least_words: int = 50, most_words: int = 100_000) -> list[Step]:
    """Give the rules of Gopher's filters that hold in any language, for pages from the web.

    Its rule of English stop words is left out; its rules of word lengths and repeated runs are
    fitted to scripts without spaces, see each step.

    Args:
        least_words: of a document; in scripts without spaces, characters.
        most_words: the same.

    Reference:
        Rae et al., Scaling Language Models: … Training Gopher, 2021 (2112.11446), appendix A.1.1.
    """
    return [
        Length(least_words=least_words, most_words=most_words),
        WordLength(),
        Symbols(),
        LetterShare(),
        RepeatedLines(),
        RepeatedPhrases(),
    ]
