"""Vocabularies of one's own beside transformers' way of growing one."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import AutoTokenizer

from tfllm import text
from tfllm.errors import InputError

CORPUS = ["the cat sat on the mat and the dog saw the cat"] * 4


@pytest.fixture(scope="module")
def old():
    return text.train_byte_level_bpe(CORPUS, 290)


def test_new_words_are_one_token_and_old_ids_stay(old, tmp_path):
    new, sources = text.extend(old, ["zebra", "the", "日本語"])
    assert old.fast.encode("the").ids == new.fast.encode("the").ids  # one token already
    first = old.vocabulary_size
    assert new.vocabulary_size == first + 2 == len(sources)
    sentence = "the zebra and 日本語 saw zebras"
    ids = new.tokenize([sentence])[0].numpy().tolist()
    assert ids == new.fast.encode(sentence).ids
    assert first in ids and first + 1 in ids
    assert new.detokenize(tf.ragged.constant([ids], dtype=tf.int32)).numpy()[0].decode() == sentence
    assert sources[:first] == [[i] for i in range(first)]
    assert sources[first] == old.fast.encode("zebra").ids
    assert sources[first + 1] == old.fast.encode("日本語").ids

    old.save(tmp_path / "old")
    reference = AutoTokenizer.from_pretrained(tmp_path / "old")
    reference.add_tokens(["zebra", "the", "日本語"])
    assert reference(sentence).input_ids == ids

    new.save(tmp_path / "new")
    assert text.load(tmp_path / "new").tokenize([sentence])[0].numpy().tolist() == ids
    assert AutoTokenizer.from_pretrained(tmp_path / "new")(sentence).input_ids == ids


@pytest.mark.parametrize("words", [[""], [" a"], ["ab", "ab"]])
def test_words_that_can_not_be_added(old, words):
    with pytest.raises(InputError, match="new words must be different"):
        text.extend(old, words)


def test_sources_of_another_tokenizer(old):
    other = text.train_byte_level_bpe(
        ["a house by the sea, the sea"] * 4, 300, special_tokens=["<s>", "</s>"]
    )
    sources = text.sources_of(old, other)
    assert len(sources) == other.vocabulary_size
    assert sources[other.bos_id] == [old.bos_id]
    for token, token_id in other.fast.get_vocab().items():
        if token_id == other.bos_id:
            continue
        shared = old.fast.token_to_id(token)
        if shared is not None:
            assert sources[token_id] == [shared]
    sea = other.fast.token_to_id("Ġsea")
    assert sea is not None and sources[sea] == old.fast.encode(" sea").ids
    assert np.concatenate(sources).max() < old.vocabulary_size


@pytest.fixture(scope="module")
def bert():
    return text.train_wordpiece(CORPUS, 60)


def test_unknown_words_are_added_to_a_wordpiece_vocabulary(bert):
    new, sources = text.extend(bert, ["🦄", "catdog"])
    first = bert.vocabulary_size
    ids = new.tokenize(["the 🦄 saw catdog"])[0].numpy().tolist()
    assert first in ids and first + 1 in ids
    assert sources[first] == []  # nothing known to start from
    assert sources[first + 1] == bert.fast.encode("catdog", add_special_tokens=False).ids
    assert [[i] for i in range(first)] == sources[:first]


def test_parts_of_words_can_not_be_added(bert):
    part = next(token for token in bert.fast.get_vocab() if token.startswith("##"))
    with pytest.raises(InputError, match="as a part of words"):
        text.extend(bert, [part])


def test_continuations_start_from_continuations(bert):
    other = text.train_wordpiece(["xcat xdog xcat xdog xcatdog"] * 4, 60)
    for token, token_id in other.fast.get_vocab().items():
        if not token.startswith("##"):
            continue
        sources = text.sources_of(bert, other)[token_id]
        assert all(bert.fast.id_to_token(i).startswith("##") for i in sources)
