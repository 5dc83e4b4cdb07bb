import random

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import models

from tfllm import text
from tfllm.text import byte_pair_merger
from tfllm.text.byte_pair_merger import BytePairMerger


def random_merges(source, letters, count):
    """Return merges in any order: some take what is only made later, some make the same."""
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    merges = []
    for _ in range(count):
        left, right = source.choice(list(vocabulary)), source.choice(list(vocabulary))
        if (left, right) not in merges and len(left + right) < 7:
            vocabulary.setdefault(left + right, len(vocabulary))
            merges.append((left, right))
    if source.random() < 0.5:
        source.shuffle(merges)
    return vocabulary, merges


def merger_of(vocabulary, merges):
    table = [(vocabulary[a], vocabulary[b], vocabulary[a + b]) for a, b in merges]
    byte_ids = np.array([vocabulary.get(chr(b), 0) for b in range(256)])
    reach = max(len(token) for token in vocabulary)
    return BytePairMerger(np.array(table), byte_ids, len(vocabulary), reach)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("long_word", [0, 512])
def test_any_merges_equal_tokenizers(seed, long_word, monkeypatch):
    monkeypatch.setattr(byte_pair_merger, "_LONG_WORD", long_word)
    source = random.Random(seed)
    vocabulary, merges = random_merges(source, "abc"[: 1 + seed % 3], 4 + 4 * seed)
    model = models.BPE(vocabulary, merges)
    merger = tf.function(merger_of(vocabulary, merges))
    letters = [token for token in vocabulary if len(token) == 1]
    lengths = [1, 2, 3, 5, 8, 13, 40, 90, 200] * 8
    words = ["".join(source.choices(letters, k=length)) for length in lengths]
    words += ["a" * n for n in range(1, 40)] + [letters[-1] + "a" * 33 + letters[-1]]
    pieces = merger(tf.constant(words))
    begins = np.concatenate([[0], np.cumsum(pieces.counts.numpy())])
    for i, word in enumerate(words):
        tokens = model.tokenize(word)
        at = slice(begins[i], begins[i + 1])
        assert pieces.ids[at].numpy().tolist() == [token.id for token in tokens], word
        assert pieces.first_bytes[at].numpy().tolist() == [t.offsets[0] for t in tokens], word


def test_a_vocabulary_without_merges_gives_bytes():
    tokenizer = text.train_byte_level_bpe(["0"], 257)
    ids = tokenizer.tokenize(["01 €", ""])
    assert ids.row_lengths().numpy().tolist() == [6, 0]
    assert tokenizer.detokenize(ids).numpy().tolist() == ["01 €".encode(), b""]
