import random

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import models

from tfllm.text import unigram_splitter
from tfllm.text.unigram_splitter import UnigramSplitter


def splits(splitter, words):
    """Return each word's ids and offsets in bytes."""
    # For short words, building a graph takes longer than doing without.
    long = max(len(word) for word in words) > 50
    split = tf.function(splitter.split, autograph=False) if long else splitter.split
    pieces = split(tf.constant(words))
    begins = np.concatenate([[0], np.cumsum(pieces.counts)])
    result = []
    for i, word in enumerate(words):
        at = slice(begins[i], begins[i + 1])
        place = np.cumsum([0, *[len(character.encode()) for character in word]])
        ends = [place[last + 1] for last in pieces.lasts[at]]
        result.append(
            list(zip(pieces.ids[at].numpy(), place[pieces.firsts[at]], ends, strict=True))
        )
    return result


def reference(model, words):
    return [[(token.id, *token.offsets) for token in model.tokenize(word)] for word in words]


def random_pieces(source, letters, count):
    """Scores often add up to the same, or to the same but for rounding."""
    texts = {"".join(source.choices(letters, k=source.randint(1, 5))) for _ in range(count)}
    scores = [-1.1, -2.3, -0.7, -3.3, -2.2, -source.random() * 10]
    return [("<unk>", 0.0), *[(text, source.choice(scores)) for text in sorted(texts)]]


@pytest.mark.parametrize("seed", range(1, 3))
def test_any_vocabulary_equals_tokenizers(seed):
    source = random.Random(seed)
    letters = "abé東"[: 2 * seed]
    pieces = random_pieces(source, letters, 5 + 15 * seed)
    lengths = [1, 2, 3, 5, 8, 13, 40, 100, 300] * 5
    words = ["".join(source.choices(letters + "xé", k=length)) for length in lengths]
    words += ["a" * n for n in range(1, 60)] + ["<unk>x", "x<unk>", "x" * 50 + "a"]
    splitter = UnigramSplitter(pieces, unknown_id=0)
    assert splits(splitter, words) == reference(models.Unigram(pieces, 0, False), words)


def near_ties():
    """Words whose later parts have two splits that differ by rounding only."""
    pieces = [("<unk>", 0.0), ("aab", -1.1), ("b", -0.7), ("aa", -0.1 - 0.2), ("ab", -0.8)]
    pieces += [("a", -0.1), ("aaa", -0.3), ("cc", -7.7), ("c", -3.3)]
    source = random.Random(1)
    return pieces, ["".join(source.choices(["aaa", "aab", "cc", "c"], k=12)) for _ in range(100)]


def test_sums_are_rounded_as_in_the_whole_word(monkeypatch):
    pieces, words = near_ties()
    expected = reference(models.Unigram(pieces, 0, False), words)
    assert splits(UnigramSplitter(pieces, 0), words) == expected
    # The words do tell the difference.
    monkeypatch.setattr(unigram_splitter, "_ROUNDING", -1.0)
    assert splits(UnigramSplitter(pieces, 0), words) != expected


def test_the_longest_last_piece_wins_a_tie():
    pieces = [("<unk>", 0.0), ("a", -1.0), ("aa", -2.0), ("aaa", -3.0)]
    assert splits(UnigramSplitter(pieces, 0), ["aaaa"]) == [[(1, 0, 1), (3, 1, 4)]]
    assert reference(models.Unigram(pieces, 0, False), ["aaaa"]) == [[(1, 0, 1), (3, 1, 4)]]


def test_of_equal_texts_the_last_counts():
    pieces = [("<unk>", 0.0), ("a", -5.0), ("b", -1.0), ("ab", -5.5), ("a", -9.0)]
    words = ["ab", "aba", "a"]
    expected = reference(models.Unigram(pieces, 0, False), words)
    assert splits(UnigramSplitter(pieces, 0), words) == expected
    assert expected[2] == [(4, 0, 1)]


def test_long_words():
    pieces = [("<unk>", 0.0), ("a", -1.5), ("aa", -2.5), ("東京", -3.0), ("都", -2.0), ("ab", -2.1)]
    words = ["東京都" * 2000, "a" * 3000, "ab x" * 500, "a", "東京都" * 9]
    expected = reference(models.Unigram(pieces, 0, False), words)
    assert splits(UnigramSplitter(pieces, 0), words) == expected


def test_no_words():
    splitter = UnigramSplitter([("<unk>", 0.0), ("a", -1.0)], 0)
    pieces = tf.function(splitter.split, autograph=False)(tf.constant([], tf.string))
    assert [values.shape for values in pieces] == [[0]] * 4
