import json
import subprocess
import sys
import unicodedata

import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tfllm.errors import InputError
from tfllm.text.wordpiece import WordPiece
from tfllm.text.wordpiece_rows import PlainRows

PROPERTY = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    "a", "b", "the", "fox", "un", "##aff", "##able", "##a", "##b", "##s", "東", "京", "##京", "e",
    "é", "É", "##e", "'", ".", "!", "n", "##t", "n't", "'s", "do", "not", "[", "]", "mask", "MASK",
    "#", "##", "###", "-", "a-b", "ᄀ", "##ᅡ", "##ᆨ", "각", "ß", "i", "x y", "\U0001d165", "1", "ſ",
    "The", "##n", "don", "\u0301",
]  # fmt: skip
PARTS = [
    *SPECIAL, "[mask]", "[", "]", "Foo", "foo", "FOO", "<tail>", "<tail>s", "é", "É", "e\u0301",
    " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\u200b", "\u00ad",
    "'", "'s", "n't", "s", "The", "the", "unaffable", "1", "²", "１", "Ａ", "，", "。", "ﬁ", "½",
    "!", "--", "_", "東", "京", "豈", "\U0002f800", "각", "가", "İ", "ẞ", "ß", "ſ", "Σ", "🤗",
    "\u0344", "\u0316", "\u0301", "\U0001d15e", "\U0001d160", "\U0001d165", "\u302e", "\u0f73",
    "\U0010fffd", "\ufffd", "\ufeff", "\x00", "#", "##", "##a", "a" * 99, "é" * 33, "x y",
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PARTS), max_size=12).map("".join))


def bert(normalizer, added=(), **model):
    """Hugging Face's tokenizer of PIECES."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *PIECES])}
    fast = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", **model))
    fast.normalizer = normalizer
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    fast.add_tokens(list(added))
    return fast


ROLES = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
ADDED = [
    AddedToken("Foo", normalized=True),
    AddedToken("<tail>", rstrip=True, lstrip=True, normalized=True),
    AddedToken("<tail>s", normalized=False, lstrip=True),
    AddedToken("É東x", normalized=True),
]


@pytest.fixture(scope="module")
def uncased():
    return WordPiece(bert(normalizers.BertNormalizer()), special_roles=ROLES)


@pytest.fixture(scope="module")
def with_added():
    return WordPiece(bert(normalizers.BertNormalizer(), ADDED), special_roles=ROLES)


@pytest.fixture(scope="module")
def raw():
    """Nothing is cleaned; capitals stay, and accents go; special tokens are plain text."""
    normalizer = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False
    )
    fast = bert(normalizer, max_input_chars_per_word=20)
    return WordPiece(fast, special_tokens_in_text=False)


def reference(tokenizer, text):
    """Hugging Face's ids and its offsets in bytes."""
    encoding = tokenizer.fast.encode(text, add_special_tokens=False)
    place = [0]
    for character in text:
        place.append(place[-1] + len(character.encode()))
    return encoding.ids, [(place[a], place[b]) for a, b in encoding.offsets]


def assert_same(tokenizer, texts):
    batch = tf.constant([text.encode() for text in texts], tf.string)
    ids = tokenizer.tokenize(batch).to_list()
    same_ids, starts, ends = (x.to_list() for x in tokenizer.tokenize_with_offsets(batch))
    for i, text in enumerate(texts):
        expected = reference(tokenizer, text)
        assert ids[i] == expected[0], repr(text)
        got = (same_ids[i], list(zip(starts[i], ends[i], strict=True)))
        assert got == expected, repr(text)


# ---------------------------------------------------------------- by hand


def test_ids_and_offsets_by_hand(uncased):
    ids, starts, ends = uncased.tokenize_with_offsets(tf.constant(["É東 [MASK] unaffables,", ""]))
    place = {token: i for i, token in enumerate([*SPECIAL, *PIECES])}
    pieces = ["e", "東", "[MASK]", "un", "##aff", "##able", "##s", "[UNK]"]
    assert ids.to_list() == [[place[piece] for piece in pieces], []]
    assert starts.to_list() == [[0, 2, 6, 13, 15, 18, 22, 23], []]
    assert ends.to_list() == [[2, 5, 12, 15, 18, 22, 23, 24], []]
    assert ids.dtype == starts.dtype == ends.dtype == tf.int32


def test_special_ids(uncased):
    assert uncased.special_tokens == {token: i for i, token in enumerate(SPECIAL)}
    assert (uncased.pad_id, uncased.cls_id, uncased.sep_id, uncased.mask_id) == (0, 2, 3, 4)
    assert uncased.bos_id is None and uncased.eos_id is None
    assert uncased.vocabulary_size == len(SPECIAL) + len(PIECES)


# ---------------------------------------------------------------- against Hugging Face


@PROPERTY
@given(texts=st.lists(TEXTS, max_size=20))
def test_equals_fast(uncased, texts):
    assert_same(uncased, texts)


@PROPERTY
@given(texts=st.lists(TEXTS, max_size=20))
def test_equals_fast_with_added_tokens(with_added, texts):
    assert_same(with_added, texts)


@PROPERTY
@given(texts=st.lists(TEXTS, max_size=20))
def test_equals_fast_without_cleaning(raw, texts):
    assert_same(raw, texts)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(24))
def test_every_setting(number):
    booleans = [bool(number & bit) for bit in (1, 2, 4)]
    strip = [None, True, False][number // 8]
    fast = bert(normalizers.BertNormalizer(*booleans[:2], strip, booleans[2]), ADDED)
    tokenizer = WordPiece(fast, special_tokens_in_text=number % 5 > 0)

    @settings(PROPERTY, max_examples=200)
    @given(texts=st.lists(TEXTS, max_size=20))
    def check(texts):
        assert_same(tokenizer, texts)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "@", "##", "é", "b#"])
def test_other_prefixes_and_no_normalizer(prefix):
    vocabulary = ["[UNK]", "a", "b", "ab", "é", "@", "#", "@@", f"{prefix}a", f"{prefix}é#"]
    vocabulary += [f"{prefix}b@", f"{prefix}b"]
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    fast = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix=prefix))
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = WordPiece(fast)

    @settings(PROPERTY, max_examples=300)
    @given(texts=st.lists(st.text(alphabet="abé@# ", max_size=12), max_size=20))
    def check(texts):
        assert_same(tokenizer, texts)

    check()


def test_special_tokens_are_recognised_or_not(uncased):
    plain = WordPiece(uncased.fast, special_roles=ROLES, special_tokens_in_text=False)
    text = ["the [MASK] fox[SEP]"]
    assert {3, 4} <= set(uncased.tokenize(tf.constant(text)).to_list()[0])
    assert {3, 4}.isdisjoint(plain.tokenize(tf.constant(text)).to_list()[0])
    assert plain.tokenize(tf.constant(text)).to_list() == [reference(plain, text[0])[0]]
    assert plain.fingerprint != uncased.fingerprint


def test_every_assigned_character(uncased):
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    assigned = [c for c in every if unicodedata.category(c) not in ("Cn", "Co")]
    assert len(assigned) > 140_000
    # Alone and between letters; in rows of 50, to save time. Spaces keep the words short.
    for form in ("{} a", "a{}b "):
        pieces = [form.format(c) for c in assigned]
        rows = ["".join(pieces[i : i + 50]) for i in range(0, len(pieces), 50)]
        encodings = uncased.fast.encode_batch_fast(rows, add_special_tokens=False)
        ids = uncased.tokenize(tf.constant([row.encode() for row in rows]))
        assert ids.row_lengths().numpy().tolist() == [len(e.ids) for e in encodings]
        assert ids.values.numpy().tolist() == [i for e in encodings for i in e.ids]


@pytest.mark.slow
@pytest.mark.parametrize("before,after", [("", ""), ("a", "b"), (" ", "!"), ("e\u0301", "\u0316")])
def test_every_character_there_may_be(uncased, raw, before, after):
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for begin in range(0, len(every), 50_000):
        texts = [before + c + after for c in every[begin : begin + 50_000]]
        assert_same(uncased, texts)
        assert_same(raw, texts)


def test_marks_are_put_in_order(uncased, raw):
    marks = ["\u0344", "\u0316", "\U0001d165", "\U0001d16d", "\u302e", "\U0001d160", "\u0345", "é"]
    texts = [a + b + c for a in marks for b in marks for c in marks]
    assert_same(uncased, [*texts, *["a" + text + "[MASK]" + text for text in texts]])
    assert_same(raw, texts)


@pytest.mark.parametrize("letter", ["a", "é", "가", "İ", "東", "-", "\u0344", "\x01", "𐐀", "，"])
def test_words_that_are_too_long(uncased, raw, letter):
    lengths = (19, 20, 21, 33, 34, 50, 51, 99, 100, 101, 201, 1000)
    texts = [f"the {letter * n} a" for n in lengths] + [f"{letter}b" * 50 + "a", "b" * 101]
    assert_same(uncased, texts)
    assert_same(raw, texts)


def test_invalid_utf8_is_read_as_python_reads_it(uncased, raw):
    rows = [
        b"\xff", b"a\xe2\x82", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80",
        b"\xc0\x80", b"\xf0\x9f\x98A", b"\xe2(\xa1", b"x\x80y", b"\xef\xbf\xbe", b"\x00\xfe\x00",
    ]  # fmt: skip
    for tokenizer in (uncased, raw):
        texts = [row.decode("utf-8", "replace") for row in rows]
        expected = [reference(tokenizer, text)[0] for text in texts]
        assert tokenizer.tokenize(tf.constant(rows)).to_list() == expected


@PROPERTY
@given(rows=st.lists(st.binary(max_size=12), min_size=1, max_size=30))
def test_any_bytes(raw, rows):
    ids, starts, ends = raw.tokenize_with_offsets(tf.constant(rows, tf.string))
    expected = [reference(raw, row.decode("utf-8", "replace"))[0] for row in rows]
    assert ids.to_list() == expected == raw.tokenize(tf.constant(rows, tf.string)).to_list()
    for row, begin, end in zip(rows, starts.to_list(), ends.to_list(), strict=True):
        assert all(0 <= a < b <= len(row) for a, b in zip(begin, end, strict=True))


# ---------------------------------------------------------------- the fast way


def test_ordinary_rows_take_the_fast_way(uncased):
    rows = PlainRows(uncased._config, special_too=True)
    texts = ["The fox, 1999!", "Ça – l’été", "東京都，的１", "a" * 100, "x [maske]\tb\r\n", ""]
    others = ["[MASK]", "각", "a\x00", "a" * 101, b"\xff", "\U0001d165", "Ça ，"]
    assert rows.check(tf.constant(texts)).plain.numpy().all()
    assert not rows.check(tf.constant(others)).plain.numpy().any()


def test_fast_rows_and_others_are_put_together_in_order(uncased):
    texts = ["the fox", "a [MASK]", "", "각", "don't", "[SEP]", "東京"]
    assert_same(uncased, texts)
    assert_same(uncased, texts[::-1])


# ---------------------------------------------------------------- back to text


@PROPERTY
@given(data=st.data())
def test_detokenize_equals_fast(with_added, data):
    ids = st.lists(st.integers(0, with_added.vocabulary_size + 3), max_size=12)
    rows = data.draw(st.lists(ids, min_size=1, max_size=4))
    batch = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
    for skip in (False, True):
        got = with_added.detokenize(batch, skip_special_tokens=skip).numpy()
        expected = [with_added.fast.decode(row, skip_special_tokens=skip) for row in rows]
        assert [row.decode() for row in got] == expected


@pytest.mark.parametrize(
    "decoder", [None, decoders.WordPiece(cleanup=False), decoders.WordPiece(prefix="un")]
)
def test_other_decoders(decoder):
    fast = bert(normalizers.BertNormalizer())
    if decoder is None:
        state = json.loads(fast.to_str())
        fast = Tokenizer.from_str(json.dumps({**state, "decoder": None}))
    else:
        fast.decoder = decoder
    rows = [list(range(fast.get_vocab_size())), [9, 10, 900, 11], []]
    got = WordPiece(fast).detokenize(tf.ragged.constant(rows, tf.int32)).numpy()
    assert [row.decode() for row in got] == [
        fast.decode(row, skip_special_tokens=False) for row in rows
    ]


def test_unknown_ids_become_nothing(uncased):
    ids = tf.ragged.constant([[-1, 5, 10**6, 6], []], tf.int32)
    assert uncased.detokenize(ids).numpy().tolist() == [b"a b", b""]


# ---------------------------------------------------------------- in TensorFlow


def test_empty_batch_and_empty_rows(uncased, raw):
    for tokenizer in (uncased, raw):
        assert tokenizer.tokenize(tf.constant([], tf.string)).shape[0] == 0
        assert tokenizer.tokenize(tf.constant(["", " ", "\x00"])).to_list()[0] == []
        ids, starts, ends = tokenizer.tokenize_with_offsets(tf.constant([], tf.string))
        assert tokenizer.detokenize(ids).shape == [0]


def test_a_bundle_serves_without_tensorflows_python(with_added, tmp_path):
    from tfllm.export import export_bundle
    from tfllm.serving import Session

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def serve(texts):
        ids, starts, ends = with_added.tokenize_with_offsets(texts)
        return {
            "by_rows": with_added.tokenize(texts).to_tensor(-1),
            "ids": ids.to_tensor(-1),
            "starts": starts.to_tensor(-1),
            "ends": ends.to_tensor(-1),
            "text": with_added.detokenize(ids, skip_special_tokens=True),
        }

    texts = ["The [MASK] fox Foo", "", "東京 é\U0001d165\u0316 <tail>  x", "각 unaffable"]
    module = tf.Module()
    module.tokenizer = with_added
    module.dummy = tf.Variable(1.0)
    version = export_bundle(
        {"serving_default": serve},
        tmp_path,
        "words",
        modules=[module],
        probes={"serving_default": {"texts": texts}},
    )
    with Session(version) as session:
        got = session.run("serving_default", {"texts": texts})
    for name, value in serve(tf.constant(texts)).items():
        assert got[name].tolist() == value.numpy().tolist(), name
    graph = (version / "saved_model.pb").read_bytes()
    assert len(graph) < 8_000_000
    assert b"PyFunc" not in graph and b"MutableHash" not in graph


def test_inside_a_dataset(uncased):
    texts = ["the fox", "[MASK]'s", ""]
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(uncased.tokenize)
    rows = [row for batch in batches for row in batch.to_list()]
    assert rows == [reference(uncased, text)[0] for text in texts]


# ---------------------------------------------------------------- what is refused


def broken(change):
    state = json.loads(bert(normalizers.BertNormalizer()).to_str())
    change(state)
    return json.dumps(state)


@pytest.mark.parametrize(
    "change,named",
    [
        (lambda s: s["model"].update(type="WordLevel"), "WordLevel"),
        (lambda s: s["model"].update(unk_token="[GONE]"), "GONE"),
        (lambda s: s["model"].update(continuing_subword_prefix="ab"), "ab"),
        (lambda s: s["model"].update(continuing_subword_prefix="[U"), "starts with the prefix"),
        (lambda s: s["model"]["vocab"].update(a=7), "same id"),
        (lambda s: s["model"]["vocab"].update({"a\x00": 900}), "U.0000"),
        (lambda s: s.update(normalizer={"type": "NFC"}), "NFC"),
        (lambda s: s.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda s: s.update(pre_tokenizer=None), "pre-tokenizer"),
        (lambda s: s.update(post_processor={"type": "ByteLevel"}), "ByteLevel"),
        (lambda s: s.update(decoder={"type": "CTC"}), "CTC"),
        (lambda s: s["added_tokens"][0].update(single_word=True), "single_word"),
    ],
)
def test_what_the_graph_does_not_do_is_refused(change, named):
    def and_no_cleaning(state):
        change(state)
        if (state["normalizer"] or {}).get("type") == "BertNormalizer":
            state["normalizer"]["clean_text"] = False

    with pytest.raises(InputError, match=named) as caught:
        WordPiece(broken(and_no_cleaning))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "added,named",
    [
        (["Foo", "foo"], "'Foo' does"),
        (["\u0301"], "nothing remains"),
        ([AddedToken("<a>", lstrip=True), "東"], "space at its end"),
    ],
)
def test_added_tokens_that_are_refused(added, named):
    fast = bert(normalizers.BertNormalizer(), added)
    with pytest.raises(InputError, match=named):
        WordPiece(fast)


def test_no_json_is_refused():
    for text in ("", "{", "[]", "{}"):
        with pytest.raises(InputError):
            WordPiece(text)


def test_unknown_roles_are_refused(uncased):
    with pytest.raises(InputError, match="start_token"):
        WordPiece(uncased.fast, special_roles={"start_token": "a"})
    with pytest.raises(InputError, match="<nowhere>"):
        WordPiece(uncased.fast, special_roles={"cls_token": "<nowhere>"})


def test_truncation_and_padding_are_left_out(uncased):
    fast = Tokenizer.from_str(uncased.fast.to_str())
    fast.enable_truncation(3)
    fast.enable_padding(length=9)
    same = WordPiece(fast, special_roles=ROLES)
    assert same.fast.encode("a b a b a b", add_special_tokens=False).ids == [5, 6] * 3
    assert same.fingerprint == uncased.fingerprint


def test_the_room_opens_without_tensorflow():
    code = "import sys, tfllm.text, tfllm.text.loading; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
