import sys
from importlib.util import find_spec
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data import FastTokenizer
from tfllm.data.encoders import DocumentRowEncoder, SentenceEncoder, WordedTokenizer
from tfllm.data.encoders.word_cuts import word_cuts
from tfllm.errors import InputError
from tfllm.text import train_byte_level_bpe, train_wordpiece

CORPUS = ["the embedding sat on the mat, wordlessly embedded", "房间很大，服务不错"] * 3
LINES = st.lists(
    st.lists(
        st.sampled_from("the embedded mat zebra , 房间 [MASK] wordlessly".split()), max_size=9
    ),
    max_size=6,
)
needs_jieba = pytest.mark.skipif(find_spec("jieba") is None, reason="jieba is not installed")


@pytest.fixture(scope="module")
def fast() -> FastTokenizer:
    return FastTokenizer.of(train_wordpiece(CORPUS, 75))


@pytest.fixture(scope="module")
def worded(fast) -> WordedTokenizer:
    return WordedTokenizer(fast)


def shown(tokenizer, ids, starts) -> str:
    tokens = [tokenizer.fast.id_to_token(int(token)) for token in ids]
    marked = [f"|{token}" if start else token for token, start in zip(tokens, starts, strict=True)]
    return " ".join(marked)


def test_pieces_of_a_word(fast, worded):
    (first, empty, last) = worded(["The zebra!", "", "mat[MASK] the"]).parts()
    assert shown(fast, *first).count("|") == 2 + 1 and shown(fast, *first).startswith("|the |")
    assert not len(empty[0])
    assert "|[MASK]" in shown(fast, *last)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["the", "zebra", "mat,", "房间", "é"])), max_size=4))
def test_wordpiece_words_are_hugging_faces(fast, worded, texts):
    texts = [" ".join(words) for words in texts]
    for text, (ids, starts) in zip(texts, worded(texts).parts(), strict=True):
        encoding = fast.fast.encode(text, add_special_tokens=False)
        assert ids.tolist() == encoding.ids
        changes = np.diff(np.array(encoding.word_ids, int), prepend=-1) != 0
        np.testing.assert_array_equal(starts, changes)


def test_byte_level_words():
    fast = FastTokenizer.of(train_byte_level_bpe(["the cat sat\nthe mat, the"] * 3, 300))
    ((ids, starts),) = WordedTokenizer(fast)(["the cat,\nthe<|endoftext|>mat sat"]).parts()
    tokens = [fast.fast.id_to_token(int(token)) for token in ids]
    firsts = [token for token, start in zip(tokens, starts, strict=True) if start]
    assert firsts == ["the", "Ġcat", "Ċ", "the", "<|endoftext|>", "mat", "Ġsat"]
    assert "," in tokens and "," not in firsts


@needs_jieba
def test_chinese_words(fast):
    worded = WordedTokenizer(fast, "chinese")
    text = "房间很大，[MASK]服务 the mat不错"
    (of_words, empty) = worded([text, ""]).parts()
    assert shown(fast, *of_words) == "|房 间 |很 大 |， |[MASK] |服 务 |the |mat |不 错"
    assert not len(empty[0])
    assert worded.identity()["jieba"] and "jieba" not in WordedTokenizer(fast).identity()
    again = ForkingPickler.loads(ForkingPickler.dumps(worded))
    np.testing.assert_array_equal(again([text]).word_starts, of_words[1])


def test_jieba_is_missing(fast, monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(InputError, match=r"pip install 'tfllm\[chinese\]'"):
        WordedTokenizer(fast, "chinese")


def test_kinds_of_words(fast):
    with pytest.raises(InputError, match="^--words must be one of pieces, chinese. Received: 'x'"):
        WordedTokenizer(fast, "x")


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 9))
def test_cuts_lie_between_words(begins, room):
    starts = np.array([True, *begins[1:]][: len(begins)], np.uint8)
    cuts = word_cuts(starts, room)
    assert [t for first, end in cuts for t in range(first, end)] == list(range(len(starts)))
    assert all(1 <= end - first <= room for first, end in cuts)
    for first, end in cuts[:-1]:
        # Between words, unless one is longer than a part; and no later cut would do.
        assert starts[end] or (end - first == room and not starts[first + 1 : end].any())
        assert not starts[end + 1 : first + room + 1].any()


@settings(max_examples=60, deadline=None)
@given(LINES, st.integers(3, 12))
def test_documents_lose_no_token(fast, worded, lines, length):
    texts = [" ".join(words) for words in lines]
    encoder = DocumentRowEncoder(worded, length)
    columns, counts = encoder([{"text": text} for text in texts])
    ids, starts = columns["input_ids"], columns["word_starts"]
    np.testing.assert_array_equal(ids.lengths, starts.lengths)
    rows = np.split(ids.values, np.cumsum(ids.lengths)[:-1])
    cls, sep = (fast.fast.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    found = [token for row in rows for token in row.tolist()[1:-1]]
    wanted = [t for text in texts for t in fast.fast.encode(text, add_special_tokens=False).ids]
    assert found == wanted
    for row, begun in zip(
        rows, np.split(starts.values, np.cumsum(starts.lengths)[:-1]), strict=True
    ):
        if len(row):
            assert row[0] == cls and row[-1] == sep and len(row) <= length
            assert begun[0] == begun[1] == begun[-1] == 1
    assert counts["documents"] == len(texts)
    assert counts["text_bytes"] == sum(len(text.encode()) for text in texts)


@settings(max_examples=80, deadline=None)
@given(st.lists(LINES, max_size=4), st.integers(5, 40))
def test_sentences_lose_no_token(fast, worded, documents, length):
    encoder = SentenceEncoder(worded, length)
    texts = ["\n".join(" ".join(words) for words in lines) for lines in documents]
    columns, counts = encoder([{"text": text} for text in texts])
    ids = columns["input_ids"]
    wanted = [t for text in texts for t in fast.fast.encode(text, add_special_tokens=False).ids]
    assert ids.values.tolist() == wanted
    assert (ids.lengths <= max(1, encoder.room // 2)).all() and (ids.lengths > 0).all()
    lines = [sum(1 for words in some if words) for some in documents]
    assert counts["documents_of_lines"] == sum(n > 1 for n in lines)
    assert columns["document_starts"].sum() == sum(n > 0 for n in lines)
    # Chunks hold as many sentences as fit, and end where a document does.
    begins, chunks = columns["document_starts"], columns["chunk_starts"]
    filled = 0
    for size, begun, chunk in zip(ids.lengths, begins, chunks, strict=True):
        assert bool(chunk) == bool(begun or filled + size > encoder.room)
        filled = size if chunk else filled + size


def test_no_room(worded):
    with pytest.raises(InputError, match="^--sequence_length 2 leaves no room"):
        DocumentRowEncoder(worded, 2)
    with pytest.raises(InputError, match="^--sequence_length 4 leaves 1 tokens for two texts"):
        SentenceEncoder(worded, 4)


def test_encoders_travel(worded):
    examples = [{"text": "the embedding\nsat on"}]
    for encoder in (DocumentRowEncoder(worded, 8), SentenceEncoder(worded, 12)):
        again = ForkingPickler.loads(ForkingPickler.dumps(encoder))
        assert again.identity() == encoder.identity()
        np.testing.assert_array_equal(
            again(examples).columns["input_ids"].values,
            encoder(examples).columns["input_ids"].values,
        )
