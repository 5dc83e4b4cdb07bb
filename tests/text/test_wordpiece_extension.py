"""A WordPiece vocabulary grown by whole words, beside transformers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from tfllm import text
from tfllm.errors import InputError

CORPUS = ["the cat sat on the mat and the dog saw the cat", "abc bcd cde dea eab [MASK]"] * 4
DOMAIN = ["the catdog sat on catdogs", "catdog matdog, matdog! Catdog"] * 2


@pytest.fixture(scope="module")
def old() -> text.WordPiece:
    return text.train_wordpiece(CORPUS, 60)


@pytest.fixture(scope="module")
def grown(old, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown")
    new, sources = text.extend_wordpiece(old, DOMAIN, 2)
    new.save(folder)
    return new, sources, BertTokenizerFast.from_pretrained(folder)


def test_the_most_frequent_words_that_were_cut_are_added(old, grown):
    new, sources, _ = grown
    first = old.vocabulary_size
    assert [new.fast.id_to_token(first + i) for i in range(2)] == ["catdog", "matdog"]
    assert sources[:first] == [[i] for i in range(first)]
    for i, word in enumerate(("catdog", "matdog")):
        assert sources[first + i] == old.fast.encode(word, add_special_tokens=False).ids
    assert len(sources) == new.vocabulary_size
    assert new.fast.encode("a catdog", add_special_tokens=False).ids[-1] == first
    # No added token: not found inside a word.
    assert first not in new.fast.encode("acatdog", add_special_tokens=False).ids
    for token, token_id in old.fast.get_vocab().items():
        assert new.fast.token_to_id(token) == token_id


def test_the_order_of_documents_does_not_matter(old, grown):
    again, _ = text.extend_wordpiece(old, reversed(DOMAIN), 2)
    assert again.fingerprint == grown[0].fingerprint


WORDS = st.lists(
    st.text("abcdegmnostu", max_size=9)
    | st.sampled_from(["catdog", "matdogs", "catdogcat", "[MASK]", "Cat", "é", "日本", "catdog日"]),
    max_size=6,
).map(" ".join)


@given(texts=st.lists(WORDS | st.text(max_size=12), min_size=1, max_size=4))
@settings(max_examples=60)
def test_ids_equal_transformers(old, grown, texts):
    new, _, reference = grown
    ours = new.tokenize(texts).to_list()
    assert ours == [reference(t, add_special_tokens=False).input_ids for t in texts]
    for t, ids in zip(texts, ours, strict=True):
        before = old.fast.encode(t, add_special_tokens=False)
        # What could be spelt still can.
        assert ids.count(new.special_tokens["[UNK]"]) <= before.ids.count(
            old.special_tokens["[UNK]"]
        )
        if not any(new.fast.id_to_token(i) in ("catdog", "matdog") for i in ids):
            assert ids == before.ids


def test_a_word_that_begins_with_a_new_one_stays_spelt(tmp_path):
    # There is `##cd`, and no `##d`: with `abc` as a word, `abcd` needs one.
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "ab", "##c", "##cd"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    old = text.load(tmp_path)
    new, sources = text.extend_wordpiece(old, ["abc abc"], 5)
    assert new.fast.encode("abcd", add_special_tokens=False).tokens == ["abc", "##d"]
    at = new.fast.token_to_id("##d")
    assert sources[at] == [old.fast.token_to_id("d")]
    assert sources[new.fast.token_to_id("abc")] == [9, 10]
    assert new.vocabulary_size == len(sources)


def test_nothing_to_add(old):
    new, sources = text.extend_wordpiece(old, ["the cat", "catdog"], 5)  # once is too seldom
    assert new.fingerprint == old.fingerprint and len(sources) == old.vocabulary_size
    with pytest.raises(InputError, match="words must be at least 1. Received: 0"):
        text.extend_wordpiece(old, DOMAIN, 0)
    with pytest.raises(InputError, match="documents is one string"):
        text.extend_wordpiece(old, "catdog", 1)
    with pytest.raises(InputError, match="document 1 is not a str. Received: int"):
        text.extend_wordpiece(old, ["a", 1], 1)


def test_the_rows_of_a_model_follow(old, grown):
    from transformers import BertConfig

    from tfllm.models import MaskedLM

    new, sources, _ = grown
    config = BertConfig(
        vocab_size=old.vocabulary_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    model = MaskedLM.from_config(config)
    table = model.backbone.bert.embeddings.weight.numpy()
    rows = model.with_vocabulary(sources, new).backbone.bert.embeddings.weight.numpy()
    np.testing.assert_array_equal(rows[: len(table)], table)
    np.testing.assert_allclose(rows[-2], table[sources[-2]].mean(axis=0), rtol=1e-6)
