"""Anonymous memory of a tokenizer in graph that meets new words all the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers_texts import distinct_words, ours

ROWS, WORDS_OF_A_ROW = 250, 20
WORDS_OF_A_BATCH = ROWS * WORDS_OF_A_ROW


def batch_of(first: int) -> Any:
    """Rows of words that no other batch has; in every second batch they hold Cyrillic letters.

    TF Text serves WordPiece's plain rows, tables serve the others: both are met.
    """
    import tensorflow as tf

    words = distinct_words(first, first + WORDS_OF_A_BATCH)
    if first // WORDS_OF_A_BATCH % 2:
        words = [f"{word}жи" for word in words]
    rows = [words[i : i + WORDS_OF_A_ROW] for i in range(0, len(words), WORDS_OF_A_ROW)]
    return tf.constant([" ".join(row).encode() for row in rows])


def growth(name: str, words: int, rss_anon: Callable[[], int]) -> dict[str, int]:
    """Tokenize so many distinct words, after a tenth as many for warming up.

    Returns:
        Bytes above the warmed-up process: at the end, and at the highest of the readings after
        each batch.
    """
    tokenizer = ours(name)
    warm = words // 10
    for first in range(0, warm, WORDS_OF_A_BATCH):
        tokenizer.tokenize(batch_of(first))
    start = highest = rss_anon()
    for first in range(warm, warm + words, WORDS_OF_A_BATCH):
        tokenizer.tokenize(batch_of(first))
        highest = max(highest, rss_anon())
    return {"end": rss_anon() - start, "highest": highest - start}
