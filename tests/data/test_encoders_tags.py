import dataclasses
import json
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast, RobertaTokenizerFast

from tfllm.data.array_building import build_array_store
from tfllm.data.encoders import Ragged, TagEncoder
from tfllm.data.encoders.word_windows import word_windows
from tfllm.data.example_numbers import example_numbers
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError
from tfllm.text import train_byte_level_bpe

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, "kim", "lives", "in", "os", "##lo", "a", "b", "##b", "猫", ".", "##."]
WORDS = st.sampled_from(["Kim", "lives", "in", "Oslo", "abbb", "猫猫", "x", ".", "[SEP]", "b.b"])
LABELS = ("O", "B-PER", "B-LOC")


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY))
    return BertTokenizerFast(vocab_file=str(path))


@pytest.fixture(scope="module")
def fast(bert) -> FastTokenizer:
    return FastTokenizer(bert.backend_tokenizer.to_str(), "bert", len(bert), None, None, True)


def rows(column: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(column.values, np.cumsum(column.lengths)[:-1])]


def spell(row: list[int]) -> list[str]:
    return [VOCABULARY[token] for token in row]


def test_a_sentence_by_hand(fast):
    encoder = TagEncoder(fast, 9, labels=LABELS, overlap=2)
    example = {"tokens": ["Kim", "lives", "in", "Oslo"], "tags": ["B-PER", "O", "O", "B-LOC"]}
    columns, counts = encoder([example])
    (ids,) = rows(columns["input_ids"])
    assert spell(ids) == ["[CLS]", "kim", "lives", "in", "os", "##lo", "[SEP]"]
    assert rows(columns["word_starts"]) == [[0, 1, 1, 1, 1, 0, 0]]
    assert rows(columns["tags"]) == [[0, 1, 0, 0, 2, 0, 0]]
    assert columns["window"].tolist() == columns["first_word"].tolist() == [0]
    assert counts["words"] == 4 and counts["words_unknown"] == 0 and counts["text_bytes"] == 14
    assert encoder.features == ("input_ids", "word_starts")


def first_pieces(word_ids) -> list[int]:
    starts = []
    for place, word in enumerate(word_ids):
        starts.append(int(word is not None and (place == 0 or word_ids[place - 1] != word)))
    return starts


@settings(max_examples=80)
@given(st.lists(st.lists(WORDS, max_size=12), min_size=1, max_size=5))
def test_short_sentences_are_hugging_faces(bert, fast, sentences):
    encoder = TagEncoder(fast, 99, tags=None)
    columns, counts = encoder([{"tokens": words} for words in sentences])
    wanted = bert(sentences, is_split_into_words=True)
    assert rows(columns["input_ids"]) == wanted["input_ids"]
    starts = [first_pieces(wanted.word_ids(row)) for row in range(len(sentences))]
    assert rows(columns["word_starts"]) == starts
    unknown = {"x": 1}
    words = [word for words in sentences for word in words]
    assert counts["words_unknown"] == sum(unknown.get(word, 0) for word in words)
    assert "tags" not in columns


@settings(max_examples=30)
@given(st.lists(st.text("abé ☃", min_size=1, max_size=4).filter(str.strip), max_size=8))
def test_byte_level_words_come_after_a_space(byte_level, words):
    theirs, tokenizer = byte_level
    columns, _ = TagEncoder(tokenizer, 99, tags=None)([{"tokens": words}])
    wanted = theirs(words, is_split_into_words=True)
    assert rows(columns["input_ids"]) == [wanted["input_ids"]]
    assert rows(columns["word_starts"]) == [first_pieces(wanted.word_ids())]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bpe")
    train_byte_level_bpe(["a b ab aé ☃ ab ab"] * 3, 300).save(folder)
    files = {"vocab_file": folder / "vocab.json", "merges_file": folder / "merges.txt"}
    named = {name: "<|endoftext|>" for name in ("bos_token", "eos_token", "sep_token", "cls_token")}
    named |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    files = {name: str(path) for name, path in files.items()}
    theirs = RobertaTokenizerFast(**files, **named, add_prefix_space=True)
    plain = RobertaTokenizerFast(**files, **named)
    state = plain.backend_tokenizer.to_str()
    return theirs, FastTokenizer(state, "bpe", len(plain), None, None, True)


def test_words_that_vanish_become_unknown(fast, byte_level):
    columns, counts = TagEncoder(fast, 9, tags=None, overlap=0)(
        [{"tokens": ["Kim", "\u200b", "\ufe0f", "猫x"]}]
    )
    (ids,) = rows(columns["input_ids"])
    assert spell(ids)[:5] == ["[CLS]", "kim", "[UNK]", "[UNK]", "猫"]
    assert rows(columns["word_starts"])[0][:5] == [0, 1, 1, 1, 1]
    assert counts["words_vanished"] == 2 and counts["words_unknown"] == 3
    with pytest.raises(InputError, match="makes nothing of the word '', and has no unknown token"):
        state = json.loads(byte_level[1].json)
        state["model"]["unk_token"] = None
        without = dataclasses.replace(byte_level[1], json=json.dumps(state))
        TagEncoder(without, 9, tags=None, overlap=0)([{"tokens": ["a", ""]}])


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 4), max_size=40),
    st.integers(4, 12),
    st.data(),
)
def test_each_word_is_scored_where_it_has_most_context(sizes, room, data):
    overlap = data.draw(st.integers(0, room - 1))
    windows = word_windows(sizes, room, overlap)
    before = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    scored = [word for w in windows for word in range(w.scored_first, w.scored_end)]
    assert scored == list(range(len(sizes)))
    for window, after in zip(windows, windows[1:], strict=False):
        assert window.first < after.first <= window.end < after.end
        assert before[window.end] - before[after.first] <= overlap
        fits = before[after.end] - before[after.first - 1] <= room
        shares = before[window.end] - before[after.first - 1] <= overlap
        # Not one word more could be shared.
        assert not (shares and before[window.end + 1] - before[after.first - 1] <= room), fits
    for number, window in enumerate(windows):
        assert before[window.end] - before[window.first] <= room
        for word in range(window.scored_first, window.scored_end):
            least = [
                min(before[word] - before[w.first], before[w.end] - before[word + 1])
                if w.first <= word < w.end
                else -1
                for w in windows
            ]
            assert least.index(max(least)) == number


def test_windows_by_hand():
    first, second = word_windows([1] * 6, 4, 2)
    assert first == (0, 4, 0, 3) and second == (2, 6, 3, 6)
    assert word_windows([], 4, 2) == [(0, 0, 0, 0)]


@settings(max_examples=60)
@given(st.lists(st.lists(WORDS, max_size=30), min_size=1, max_size=4), st.integers(8, 14))
def test_long_documents_score_each_word_once(fast, sentences, most):
    encoder = TagEncoder(fast, most, labels=LABELS, overlap=3)
    tagged = [
        {"tokens": words, "tags": [LABELS[len(word) % 3] for word in words]} for words in sentences
    ]
    columns, counts = encoder(tagged)
    ids, starts, tags = (rows(columns[name]) for name in ("input_ids", "word_starts", "tags"))
    number = -1
    found: dict[int, list[tuple[str, int]]] = {}
    for row, window in enumerate(columns["window"]):
        number += window == 0
        words = found.setdefault(number, [])
        assert columns["first_word"][row] == len(words)
        assert len(ids[row]) <= most
        words += [
            (VOCABULARY[token], tag)
            for token, start, tag in zip(ids[row], starts[row], tags[row], strict=True)
            if start
        ]
        assert all(start or not tag for start, tag in zip(starts[row], tags[row], strict=True))
    pieces = fast.fast
    wanted = [
        [(pieces.encode(word, add_special_tokens=False).tokens[0], len(word) % 3) for word in words]
        for words in sentences
    ]
    assert [found[i] for i in range(len(sentences))] == wanted
    assert counts["documents_cut"] == len({i for i, w in enumerate(columns["window"]) if w == 1})


def test_a_word_longer_than_a_row_is_cut(fast):
    columns, counts = TagEncoder(fast, 6, tags=None, overlap=1)([{"tokens": ["abbbbbbb", "kim"]}])
    assert [spell(row) for row in rows(columns["input_ids"])] == [
        ["[CLS]", "a", "##b", "##b", "##b", "[SEP]"],
        ["[CLS]", "kim", "[SEP]"],
    ]
    assert counts["words_cut"] == 1


def test_rows_find_their_examples_in_a_store(fast, tmp_path):
    encoder = TagEncoder(fast, 6, tags=None, overlap=1)
    examples = [{"tokens": ["a"] * size} for size in (2, 9, 0, 5)]
    store = build_array_store(examples, encoder, cache_dir=tmp_path)
    numbers = example_numbers(store)
    assert numbers.tolist() == [0, 1, 1, 1, 2, 3, 3]
    words = np.array([store.row("word_starts", row).sum() for row in range(len(store))])
    assert np.bincount(numbers, words).tolist() == [2, 9, 0, 5]
    assert store.manifest.counts["documents_cut"] == 2


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"tokens": ["a"], "tags": ["B-ORG"]}, "must be of O, B-PER, B-LOC. Received: 'B-ORG'"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 words in 'tokens' and 1 tags in 'tags'"),
        ({"tokens": "a", "tags": ["O"]}, "no list of texts in field 'tokens'.*Received: 'a'"),
        ({"words": ["a"]}, "no list of texts in field 'tokens'.*Its fields: words"),
        ({"tokens": ["a", "\ud800"], "tags": ["O", "O"]}, "half a surrogate pair"),
    ],
)
def test_examples_that_cannot_be_encoded(fast, example, message):
    with pytest.raises(InputError, match=message):
        TagEncoder(fast, 20, labels=LABELS, overlap=3)([example])


def test_settings_that_cannot_be(fast):
    with pytest.raises(InputError, match="leaves 0 tokens for words"):
        TagEncoder(fast, 2, tags=None, overlap=0)
    with pytest.raises(InputError, match="leaves 8 tokens .* are to share 8"):
        TagEncoder(fast, 10, tags=None, overlap=8)
    with pytest.raises(InputError, match="tags need labels"):
        TagEncoder(fast, 99)


def test_an_encoder_travels_and_its_settings_count(fast):
    encoder = TagEncoder(fast, 99, labels=LABELS)
    example = {"tokens": ["Kim"], "tags": ["B-PER"]}
    before = encoder([example]).columns
    there = ForkingPickler.loads(ForkingPickler.dumps(encoder))
    assert there == encoder
    assert there([example]).columns["tags"].values.tolist() == before["tags"].values.tolist()
    assert [column.dtype for column in (before["window"], before["first_word"])] == [np.int32] * 2
    changes = [
        {"tokenizer": dataclasses.replace(fast, fingerprint="other")},
        {"max_tokens": 98},
        {"words": "w"},
        {"tags": None},
        {"labels": ("O",)},
        {"overlap": 9},
    ]
    made = [dataclasses.replace(encoder, **change).identity() for change in changes]
    texts = {json.dumps(identity) for identity in [encoder.identity(), *made]}
    assert len(texts) == 1 + len(changes) == 1 + len(dataclasses.fields(encoder))
