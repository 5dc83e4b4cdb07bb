import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.text.wordpiece_training import train_wordpiece


def test_by_hand():
    # "ab" occurs four times inside words, "c##c" once; `a ##b` is the only merge.
    tokenizer = train_wordpiece(["ab ab", "AB äb cc"], 100)
    assert tokenizer.fast.get_vocab() == {
        "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4,
        "a": 5, "b": 6, "c": 7, "##b": 8, "##c": 9, "ab": 10,
    }  # fmt: skip
    assert tokenizer.tokenize(tf.constant(["ab ba cab"])).to_list() == [[10, 1, 1]]
    assert tokenizer.fast.encode("ab").ids == [2, 10, 3]
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (0, 2, 3, 4)


def test_capitals_stay_if_asked():
    tokenizer = train_wordpiece(["Ab é"] * 3, 100, lowercase=False)
    assert {"Ab", "é"} <= set(tokenizer.fast.get_vocab())


def test_the_same_texts_give_the_same_vocabulary(sentences):
    first = train_wordpiece((text for text in sentences), 250)
    assert first.vocabulary_size == 250
    assert train_wordpiece(sentences[::-1], 250).fingerprint == first.fingerprint
    # The trainer numbers things anew each time it runs, in one process too.
    assert train_wordpiece(sentences, 250).fingerprint == first.fingerprint


def test_rare_characters_can_be_left_out():
    tokenizer = train_wordpiece(["aaaa bbb cc d"], 100, alphabet_limit=2, minimum_frequency=9)
    characters = {token for token in tokenizer.fast.get_vocab() if not token.startswith("[")}
    assert characters == {"a", "b", "##a", "##b"}


def test_training_refuses():
    with pytest.raises(InputError, match="vocabulary_size=6 .* take 7"):
        train_wordpiece(["ab"] * 2 + ["a"], 6, special_tokens=["[UNK]", "x", "y", "z"])
    with pytest.raises(InputError, match="iterable"):
        train_wordpiece("a text", 300)
    with pytest.raises(InputError, match="number 1 .* NoneType"):
        train_wordpiece(["a", None], 300)
    with pytest.raises(InputError, match="no texts"):
        train_wordpiece([], 300)
    with pytest.raises(InputError, match=r"\[UNK\]"):
        train_wordpiece(["a"], 300, special_tokens=["[PAD]"])
