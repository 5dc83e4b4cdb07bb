import dataclasses
import json
from multiprocessing.reduction import ForkingPickler
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from tfllm.data.array_building import build_array_store
from tfllm.data.encoders import DocumentEncoder, Ragged, TextEncoder, text_encoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "##s", "##ting", "a", "b", "c", "d", "é", "猫", "."]
TEXTS = st.lists(st.sampled_from([*WORDS, "cats", "sitting", "[SEP]", " "]), max_size=14).map(
    " ".join
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *WORDS]))
    return BertTokenizerFast(vocab_file=str(path))


def fast_of(bert: BertTokenizerFast) -> FastTokenizer:
    bert.backend_tokenizer.no_truncation()
    text = bert.backend_tokenizer.to_str()
    return FastTokenizer(text, "bert", len(bert), None, None, special_tokens_in_text=True)


@pytest.fixture(scope="module")
def fast(bert) -> FastTokenizer:
    return fast_of(bert)


def rows(column: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(column.values, np.cumsum(column.lengths)[:-1])]


@settings(max_examples=150)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6),
    st.integers(4, 20),
    st.sampled_from(["longest_first", "only_first", "only_second"]),
)
def test_pairs_are_hugging_faces(bert, fast, pairs, most, truncation):
    encoder = TextEncoder(fast, most, first="a", second="b", truncation=truncation)
    examples = [{"a": a, "b": b} for a, b in pairs]
    try:
        wanted = bert(
            [a for a, _ in pairs],
            [b for _, b in pairs],
            truncation=truncation,
            max_length=most,
        )
    except Exception:  # what tokenizers raises where one text alone is too long
        with pytest.raises(InputError, match=f"truncation '{truncation}' can't make"):
            encoder(examples)
        return
    columns, counts = encoder(examples)
    assert rows(columns["input_ids"]) == wanted["input_ids"]
    assert rows(columns["token_type_ids"]) == wanted["token_type_ids"]
    full = [len(ids) for ids in bert([a for a, _ in pairs], [b for _, b in pairs])["input_ids"]]
    cut = [n - len(ids) for n, ids in zip(full, wanted["input_ids"], strict=True)]
    assert counts["tokens_cut"] == sum(cut)
    assert counts["rows_truncated"] == sum(n > 0 for n in cut)
    assert counts["text_bytes"] == sum(len((a + b).encode()) for a, b in pairs)


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(3, 20))
def test_single_texts_are_hugging_faces(bert, fast, texts, most):
    columns, counts = TextEncoder(fast, most)([{"text": text} for text in texts])
    wanted = bert(texts, truncation=True, max_length=most)["input_ids"]
    assert rows(columns["input_ids"]) == wanted
    assert list(columns) == ["input_ids"]
    assert counts["tokens_cut"] == sum(map(len, bert(texts)["input_ids"])) - sum(map(len, wanted))


def test_a_truncated_pair_by_hand(fast):
    encoder = TextEncoder(fast, 6, first="a", second="b")
    columns, counts = encoder([{"a": "a b c", "b": "d"}])
    ids = dict(zip([*SPECIAL, *WORDS], range(99), strict=False))
    wanted = [ids[word] for word in ("[CLS]", "a", "b", "[SEP]", "d", "[SEP]")]
    assert columns["input_ids"].values.tolist() == wanted
    assert columns["token_type_ids"].values.tolist() == [0, 0, 0, 0, 1, 1]
    assert counts == {"text_bytes": 6, "rows_truncated": 1, "tokens_cut": 1}


def test_labels(fast):
    named = TextEncoder(fast, 9, label="y", labels=("no", "1"))
    columns, _ = named([{"text": "a", "y": 1}, {"text": "b", "y": "no"}])
    assert columns["label"].tolist() == [1, 0] and columns["label"].dtype == np.int32
    with pytest.raises(InputError, match="'y'.* must be one of no, 1. Received: 2 in .*'text': 'a"):
        named([{"text": "a", "y": 2}])
    number = TextEncoder(fast, 9, label="y")
    columns, _ = number([{"text": "a", "y": "2.5"}])
    assert columns["label"].tolist() == [2.5] and columns["label"].dtype == np.float32
    for value in ("x", None):
        with pytest.raises(InputError, match=f"must be a number. Received: {value!r}"):
            number([{"text": "a", "y": value}])


def test_several_labels_of_one_text(fast):
    encoder = TextEncoder(fast, 9, label="y", labels=("a", "b", "7"), multi_label=True)
    columns, _ = encoder([{"text": "a", "y": ["b", 7]}, {"text": "b", "y": []}])
    assert columns["label"].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert columns["label"].dtype == np.float32
    assert encoder([]).columns["label"].shape == (0, 3)
    for value in ("b", ["b", "c"], None):
        with pytest.raises(InputError, match="must be a list of some of a, b, 7. Received: "):
            encoder([{"text": "a", "y": value}])


def test_names_of_truncation_are_those_of_the_preprocessor():
    from tfllm.text import preprocessor

    assert get_args(text_encoder.Truncation) == get_args(preprocessor.Truncation)


def test_features_are_what_a_model_takes(fast):
    assert TextEncoder(fast, 9).features == ("input_ids",)
    assert TextEncoder(fast, 9, second="b").features == ("input_ids", "token_type_ids")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"txt": "a"}, "no text in field 'text'.*Its fields: txt"),
        ({"text": 5}, "no text in field 'text'.*Received: 5"),
        ({"text": "a\ud800"}, "half a surrogate pair at character 1"),
    ],
)
def test_examples_without_text(fast, tokenizer, example, message):
    for encoder in (TextEncoder(fast, 9), DocumentEncoder(FastTokenizer.of(tokenizer))):
        with pytest.raises(InputError, match=message):
            encoder([{"text": "a"}, example])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 2}, "max_tokens 2 leaves no room for text beside 2 special"),
        ({"max_tokens": 3, "second": "b"}, "beside 3 special"),
        ({"max_tokens": 9, "truncation": "first"}, "one of longest_first, only_first, only_second"),
        ({"max_tokens": 9, "truncation": "only_second"}, "needs a second text"),
        ({"max_tokens": 9, "label": "y", "multi_label": True}, "multi_label needs the labels"),
    ],
)
def test_settings_that_cannot_be(fast, settings, message):
    with pytest.raises(InputError, match=message):
        TextEncoder(fast, **settings)


def test_documents_by_hand(tokenizer):
    columns, counts = DocumentEncoder(FastTokenizer.of(tokenizer))(
        [{"text": "the é"}, {"text": ""}]
    )
    ids = tokenizer.fast.encode("the é").ids
    assert rows(columns["input_ids"]) == [[tokenizer.bos_id, *ids], [tokenizer.bos_id]]
    assert columns["input_ids"].values.dtype == np.uint16 and counts == {"text_bytes": 6}


def test_documents_need_a_start_token(fast):
    with pytest.raises(InputError, match="no start-of-document token"):
        DocumentEncoder(fast)


def test_ids_are_wide_where_the_vocabulary_is(fast):
    assert dataclasses.replace(fast, vocabulary_size=1 << 16).dtype == np.uint16
    assert dataclasses.replace(fast, vocabulary_size=(1 << 16) + 1).dtype == np.uint32


def test_settings_are_part_of_the_identity(fast):
    base = TextEncoder(fast, 9)
    changes = [
        {"tokenizer": dataclasses.replace(fast, fingerprint="other")},
        {"max_tokens": 8},
        {"first": "a"},
        {"second": "b"},
        {"truncation": "only_first"},
        {"label": "y"},
        {"labels": ("a",)},
        {"labels": ("a",), "multi_label": True},
    ]
    identities = [dataclasses.replace(base, **change).identity() for change in changes]
    texts = {json.dumps(identity) for identity in [base.identity(), *identities]}
    assert len(texts) == 1 + len(changes) == 1 + len(dataclasses.fields(base))


@pytest.mark.parametrize("recognised", [True, False])
def test_a_tokenizer_travels_with_all_its_settings(tokenizer, recognised):
    own = dataclasses.replace(FastTokenizer.of(tokenizer), special_tokens_in_text=recognised)
    encoder = DocumentEncoder(own)
    text = {"text": f"a {next(iter(tokenizer.special_tokens))} b"}
    before = rows(encoder([text])[0]["input_ids"])
    there = ForkingPickler.loads(ForkingPickler.dumps(encoder))
    assert there == encoder and "fast" not in there.tokenizer.__dict__
    assert rows(there([text])[0]["input_ids"]) == before
    assert (before[0].count(0) == 2) == recognised


def test_counts_and_columns_land_in_a_store(fast, tmp_path):
    encoder = TextEncoder(fast, 4, first="a", second=None, label="y")
    examples = [{"a": "the cat sat", "y": 1}, {"a": "on", "y": 2}, {"a": "a b c d", "y": 3}]
    store = build_array_store(examples, encoder, cache_dir=tmp_path)
    assert store.manifest.counts == {"text_bytes": 20, "rows_truncated": 2, "tokens_cut": 3}
    assert store.lengths("input_ids").tolist() == [4, 3, 4]
    assert store.values("label").tolist() == [1, 2, 3]
    assert store.manifest.encoder == json.loads(json.dumps(encoder.identity()))
