"""Words of running texts, as a corpus would part them."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.models.text_words import find_words
from tfllm.text import train_byte_level_bpe, train_wordpiece

TEXT = "(Washington, U.S. said) Germany's 1996-08-22 'twas O'Brien's $5.5%. 今天，好 very — ok?"
PIECES = [TEXT, TEXT, "the Wash ing ton ger man y said sea ver 今 天 好"] * 3
TOKENIZERS = {
    "wordpiece": train_wordpiece(PIECES, 120),
    "bytes": train_byte_level_bpe(PIECES, 300),
}


def compiled(tokenizer):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def find(texts):
        _, starts, ends = tokenizer.tokenize_with_offsets(texts)
        return find_words(texts, starts, ends)

    return find


FINDERS = {kind: compiled(tokenizer) for kind, tokenizer in TOKENIZERS.items()}


def words_of(kind: str, texts: list[bytes]) -> list[list[bytes]]:
    words = FINDERS[kind](tf.constant(texts, tf.string))
    found: list[list[bytes]] = [[] for _ in texts]
    for row, start, end in zip(*(t.numpy() for t in words if t is not words.tokens), strict=True):
        found[row].append(texts[row][start:end])
    firsts = words.tokens.numpy()
    assert (firsts[1:] > firsts[:-1]).all() and len(firsts) == sum(map(len, found))
    return found


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    "text, words",
    [
        ("(Washington, U.S. said)", "( Washington , U.S . said )"),
        ("Germany's sea", "Germany 's sea"),
        ("Germany's, O'Brien's.", "Germany 's , O'Brien 's ."),
        ("it's so'so", "it 's so'so"),
        ("1996-08-22 Israel-Lebanon", "1996-08-22 Israel-Lebanon"),
        ("  said \t\n said\u3000said  ", "said said said"),
        ("今天，好 very", "今 天 ， 好 very"),
        ("好very好", "好 very 好"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_words_are_those_of_a_corpus(kind, text, words):
    # Beside others, so that rows can't leak into one another.
    found = words_of(kind, [b"said'", text.encode(), b"s said", b""])
    assert found == [[b"said", b"'"], words.encode().split(), [b"s", b"said"], []]


texts = st.lists(
    st.one_of(st.text(max_size=12).map(str.encode), st.binary(max_size=8)), min_size=1, max_size=4
)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(texts=texts)
@settings(max_examples=40)
def test_words_of_any_bytes_follow_one_another(kind, texts):
    found = words_of(kind, texts)
    assert found == [words_of(kind, [text])[0] for text in texts]
    for text, words in zip(texts, found, strict=True):
        assert all(words)
        place = 0
        for word in words:
            place = text.index(word, place) + len(word)
    kept = b"".join(b"".join(words) for words in found)
    assert len(kept) <= sum(map(len, texts))
