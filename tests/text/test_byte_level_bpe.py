import json
import subprocess
import sys
import unicodedata

import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from tfllm.errors import InputError
from tfllm.text import ByteLevelBPE, train_byte_level_bpe

PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PARTS = [
    "<|endoftext|>", "<s>", "</s>", "<mask>", "<tail>", "<tail>s", "<pad>", "<", "|>", "é",
    " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\u200b",
    "'", "'s", "'re", "'ll", "'S", "’s", "s", "t", "re", "the", "The", "over", "1", "²", "Ⅷ", "१",
    "!", "--", "_", "東", "ü", "u\u0308", "🤗", "\U0010fffd", "\ufffd", "\ufeff", "\x00", "Ġ",
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PARTS), max_size=12).map("".join))


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
    assert ids == same_ids
    for i, text in enumerate(texts):
        got = (ids[i], list(zip(starts[i], ends[i], strict=True)))
        assert got == reference(tokenizer, text), repr(text)


def every_character():
    return [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


# ---------------------------------------------------------------- by hand


def hand_made():
    """Return bytes 0–255 in order of `ByteLevel.alphabet`, then ab=256, abc=257, Ġab=258."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    vocabulary.update({"ab": 256, "abc": 257, "Ġab": 258})
    fast = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("ab", "c"), ("Ġ", "ab")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    fast.decoder = decoders.ByteLevel()
    return fast, vocabulary


def test_merges_and_offsets_by_hand():
    fast, vocabulary = hand_made()
    tokenizer = ByteLevelBPE(fast)
    ids, starts, ends = tokenizer.tokenize_with_offsets(tf.constant(["abc abcab é"]))
    # "abc" is one token. In " abcab" (a,b) merges first, twice; then (ab,c) precedes (Ġ,ab).
    space = vocabulary["Ġ"]
    expected = [257, space, 257, 256, space, vocabulary["Ã"], vocabulary["©"]]
    assert ids.to_list() == [expected]
    assert starts.to_list() == [[0, 3, 4, 7, 9, 10, 10]]
    assert ends.to_list() == [[3, 4, 7, 9, 10, 12, 12]]
    assert ids.dtype == starts.dtype == ends.dtype == tf.int32
    assert tokenizer.bos_id is None and tokenizer.eos_id is None and tokenizer.pad_id is None


def test_words_by_hand():
    tokenizer = ByteLevelBPE(hand_made()[0])
    # Single spaces go with the next word, so " ab" is one token and the first of two isn't in it.
    assert tokenizer.tokenize(tf.constant(["  ab"])).to_list() == [[tokenizer_id(" "), 258]]


def tokenizer_id(character):
    return hand_made()[1]["Ġ" if character == " " else character]


# ---------------------------------------------------------------- against Hugging Face


@PROPERTY
@given(texts=st.lists(TEXTS, max_size=9))
def test_equals_fast(tiny, texts):
    assert_same(tiny, texts)


@PROPERTY
@given(texts=st.lists(TEXTS, max_size=9))
def test_equals_fast_with_prefix_space_and_trimming(tiny_roberta, texts):
    assert_same(tiny_roberta, texts)


@PROPERTY
@given(texts=st.lists(TEXTS, max_size=9))
def test_special_tokens_as_plain_text(plain_roberta, texts):
    assert_same(plain_roberta, texts)


def test_special_tokens_are_recognised_or_not(tiny):
    end = tiny.special_tokens["<|endoftext|>"]
    plain = ByteLevelBPE(tiny.fast, special_tokens_in_text=False)
    text = tf.constant(["a<|endoftext|>b"])
    assert end in tiny.tokenize(text).to_list()[0]
    assert end not in plain.tokenize(text).to_list()[0]
    assert plain.fast.encode("<|endoftext|>").ids == plain.tokenize(text).to_list()[0][1:-1]
    assert plain.fingerprint != tiny.fingerprint


def assert_same_ids(tokenizer, texts):
    for begin in range(0, len(texts), 20_000):
        some = texts[begin : begin + 20_000]
        encodings = tokenizer.fast.encode_batch_fast(some, add_special_tokens=False)
        ids = tokenizer.tokenize(tf.constant([text.encode() for text in some]))
        lengths = [len(encoding.ids) for encoding in encodings]
        assert ids.row_lengths().numpy().tolist() == lengths
        assert ids.values.numpy().tolist() == [i for e in encodings for i in e.ids]


def test_every_assigned_character(tiny):
    assigned = [c for c in every_character() if unicodedata.category(c) not in ("Cn", "Co")]
    assert len(assigned) > 140_000
    assert_same_ids(tiny, assigned)
    # Between letters and behind a space, digits and a quote; in rows of 50, to save time.
    pieces = [f"a{c}b {c}1{c}'s" for c in assigned]
    assert_same_ids(tiny, ["\n".join(pieces[i : i + 50]) for i in range(0, len(pieces), 50)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "before,after", [("", ""), ("a", "a"), (" ", " "), ("1", "1"), ("!", "'s")]
)
def test_every_character_there_may_be(tiny, before, after):
    assert_same(tiny, [before + c + after for c in every_character()])


@pytest.mark.parametrize(
    "before", ["", "a", "1", " ", "  ", "\n", " \n", "\u00a0", "!", "'", "<s>"]
)
def test_contractions(tiny, tiny_roberta, before):
    tails = ["s", "t", "re", "ve", "m", "ll", "d", "S", "r", "l", "v", "x", "", "'", " s", "ſ"]
    nexts = ["", "a", "1", " ", " a", "!", "'", "'s", "s", "\n"]
    texts = [f"{before}'{tail}{after}" for tail in tails for after in nexts]
    assert_same(tiny, texts)
    assert_same(tiny_roberta, texts)


def test_whitespace(tiny, tiny_roberta):
    kinds = [" ", "\n", "\u00a0", "\u3000"]
    runs = [a + b + c for a in ["", *kinds] for b in ["", *kinds] for c in ["", *kinds]]
    texts = [run + after for run in runs for after in ("", "a", "1", "!", "'s", "<s>", "<mask>")]
    assert_same(tiny, [*texts, *["a" + text for text in texts]])
    assert_same(tiny_roberta, [*texts, *["<s>" + text for text in texts]])


@pytest.mark.parametrize("word", ["a" * 5000, "the" * 2000, "-=" * 1500, "東京都" * 700])
def test_long_words(tiny, word):
    assert_same(tiny, [word, "short", f"x {word} {word[:77]}"])


def test_invalid_utf8_is_read_as_python_reads_it(tiny):
    rows = [
        b"\xff",
        b"a\xe2\x82", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xc0\x80",
        b"\xf0\x9f\x98A", b"\xe2(\xa1", b"x\x80y", b"\xef\xbf\xbe", b"\x00\xfe\x00",
    ]  # fmt: skip
    expected = [tiny.fast.encode(row.decode("utf-8", "replace")).ids for row in rows]
    assert tiny.tokenize(tf.constant(rows)).to_list() == expected


@PROPERTY
@given(rows=st.lists(st.binary(max_size=12), min_size=1, max_size=30))
def test_any_bytes(tiny, rows):
    ids, starts, ends = tiny.tokenize_with_offsets(tf.constant(rows, tf.string))
    expected = [tiny.fast.encode(row.decode("utf-8", "replace")).ids for row in rows]
    assert ids.to_list() == expected
    for row, begin, end in zip(rows, starts.to_list(), ends.to_list(), strict=True):
        assert all(0 <= a < b <= len(row) for a, b in zip(begin, end, strict=True))


# ---------------------------------------------------------------- back to text


@PROPERTY
@given(data=st.data())
def test_detokenize_equals_fast(tiny_roberta, data):
    ids = st.lists(st.integers(0, tiny_roberta.vocabulary_size + 3), max_size=12)
    rows = data.draw(st.lists(ids, min_size=1, max_size=4))
    batch = tf.ragged.constant(rows, tf.int32)
    for skip in (False, True):
        got = tiny_roberta.detokenize(batch, skip_special_tokens=skip).numpy()
        expected = [tiny_roberta.fast.decode(row, skip_special_tokens=skip) for row in rows]
        assert [row.decode() for row in got] == expected


@PROPERTY
@given(text=TEXTS)
def test_round_trip(tiny, text):
    back = tiny.detokenize(tiny.tokenize(tf.constant([text.encode()])))
    assert back.numpy()[0].decode() == text


def test_unknown_ids_become_nothing(tiny):
    ids = tf.ragged.constant([[-1, 10**6], []], tf.int32)
    assert tiny.detokenize(ids).numpy().tolist() == [b"", b""]


# ---------------------------------------------------------------- in TensorFlow


def test_empty_batch_and_empty_rows(tiny, tiny_roberta):
    for tokenizer in (tiny, tiny_roberta):
        assert tokenizer.tokenize(tf.constant([], tf.string)).shape[0] == 0
        assert tokenizer.tokenize(tf.constant(["", "", ""])).to_list() == [[], [], []]
        ids, starts, ends = tokenizer.tokenize_with_offsets(tf.constant([], tf.string))
        assert tokenizer.detokenize(ids).shape == [0]


def operations(function):
    definition = function.graph.as_graph_def()
    names = {node.op for node in definition.node}
    return names | {node.op for f in definition.library.function for node in f.node_def}


def test_saved_model(tiny_roberta, tmp_path):
    module = tf.Module()
    module.tokenizer = tiny_roberta

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(texts):
        ids, starts, ends = tiny_roberta.tokenize_with_offsets(texts)
        return {
            "ids": ids.flat_values,
            "splits": ids.row_splits,
            "starts": starts.flat_values,
            "ends": ends.flat_values,
            "text": tiny_roberta.detokenize(ids, skip_special_tokens=True),
        }

    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": serve})
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    texts = tf.constant(["It's <mask> über\x00", "", "<s>東京 1999  x"])
    expected = serve(texts)
    for name, value in loaded(texts=texts).items():
        assert value.numpy().tolist() == expected[name].numpy().tolist(), name
    found = operations(loaded)
    assert not {op for op in found if "PyFunc" in op or op.startswith("MutableHash")}
    # RE2's classes aren't Hugging Face's, so nothing may hang on a regex.
    assert not {op for op in found if "Regex" in op}
    assert (tmp_path / "saved_model.pb").stat().st_size < 2_000_000


def test_inside_a_dataset(tiny):
    texts = ["the fox", "it's", ""]
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(tiny.tokenize)
    rows = [row for batch in batches for row in batch.to_list()]
    assert rows == [tiny.fast.encode(text).ids for text in texts]


# ---------------------------------------------------------------- what is refused


def broken(change):
    state = json.loads(hand_made()[0].to_str())
    change(state)
    return json.dumps(state)


@pytest.mark.parametrize(
    "change,named",
    [
        (lambda s: s["model"].update(dropout=0.1), "dropout"),
        (lambda s: s["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
        (lambda s: s["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda s: s["model"]["vocab"].pop("Ġ"), "0x20"),
        (lambda s: s.update(normalizer={"type": "NFC"}), "NFC"),
        (lambda s: s.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda s: s.update(pre_tokenizer=None), "pre-tokenizer"),
        (lambda s: s["pre_tokenizer"].update(use_regex=False), "use_regex"),
        (lambda s: s.update(decoder=None), "decoder"),
        (lambda s: s["model"].update(type="WordPiece"), "WordPiece"),
    ],
)
def test_what_the_graph_does_not_do_is_refused(change, named):
    with pytest.raises(InputError, match=named) as caught:
        ByteLevelBPE(broken(change))
    assert "\n" not in str(caught.value)


def test_single_word_tokens_are_refused(tiny):
    fast = Tokenizer.from_str(tiny.fast.to_str())
    fast.add_tokens([AddedToken("<x>", single_word=True)])
    with pytest.raises(InputError, match="single_word"):
        ByteLevelBPE(fast)


def test_no_json_is_refused():
    for text in ("", "{", "[]", "{}"):
        with pytest.raises(InputError):
            ByteLevelBPE(text)


def test_unknown_roles_are_refused(tiny):
    with pytest.raises(InputError, match="start_token"):
        ByteLevelBPE(tiny.fast, special_roles={"start_token": "a"})
    with pytest.raises(InputError, match="<nowhere>"):
        ByteLevelBPE(tiny.fast, special_roles={"bos_token": "<nowhere>"})


def test_truncation_and_padding_are_left_out(tiny):
    fast = Tokenizer.from_str(tiny.fast.to_str())
    fast.enable_truncation(2)
    fast.enable_padding(length=9)
    assert_same(ByteLevelBPE(fast), ["the quick brown fox", "a"])


def test_trimming_by_byte_level_post_processor(tiny):
    fast = Tokenizer.from_str(tiny.fast.to_str())
    fast.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True)])
    assert_same(ByteLevelBPE(fast), ["  the  fox <|endoftext|> \n a ", " ", ""])


# ---------------------------------------------------------------- training


def test_training(tiny, sentences):
    assert tiny.vocabulary_size == 400
    assert tiny.bos_id == tiny.eos_id == tiny.special_tokens["<|endoftext|>"] == 0
    assert tiny.pad_id is None
    again = train_byte_level_bpe((text for text in sentences), 400)
    assert again.fingerprint == tiny.fingerprint
    assert train_byte_level_bpe(sentences, 399).fingerprint != tiny.fingerprint


def test_training_refuses():
    with pytest.raises(InputError, match="257"):
        train_byte_level_bpe(["a"], 256)
    with pytest.raises(InputError, match="iterable"):
        train_byte_level_bpe("a text", 300)
    with pytest.raises(InputError, match="number 1 .* NoneType"):
        train_byte_level_bpe(["a", None], 300)
    with pytest.raises(InputError, match="no texts"):
        train_byte_level_bpe([], 300)


def test_the_room_opens_without_tensorflow():
    code = "import sys, tfllm.text; assert 'tensorflow' not in sys.modules; dir(tfllm.text)"
    subprocess.run([sys.executable, "-c", code], check=True)
