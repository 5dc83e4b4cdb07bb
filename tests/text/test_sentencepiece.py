import json
import random
import unicodedata

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.serving import Session
from tfllm.text.sentencepiece import SentencePiece
from tfllm.text.sentencepiece_charsmap import pack_charsmap

PROPERTY = settings(max_examples=25, deadline=None)
REPLACEMENTS = {
    "\t": " ", "\n": " ", "\r": " ", "\x01": "", "\u200b": " ", "\u00a0": " ", "a\u0301": "á",
    "e\u0301": "é", "\u0340": "\u0300", "ﬁ": "fi", "™": "TM", "½": "1⁄2", "…": "...", "©": "(c)",
}  # fmt: skip
PARTS = [
    "[MASK]", "<unk>", "[CLS]", "[", "▁", "▁the", ".", "(", "-", "Tail", "tail", "TAIL", "ä",
    " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\x01", "\x85", "\u200b", "``", "'''", '"',
    "the", "The", "brown", "fox", "aaaa", "東京都", "é", "e\u0301", "\u0301", "ﬁ", "½", "™", "…",
    "©", "\u0340\u0301", "🤗", "한", "\u1100\u1161", "İ", "\ufffd", "\U0010ffff", "\x00",
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
ROLES = {"unk_token": "<unk>", "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "<pad>"}


def normalizer(kind):
    precompiled = normalizers.Precompiled(pack_charsmap(REPLACEMENTS))
    if kind == "albert":
        steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        steps += [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        return normalizers.Sequence([*steps, precompiled, normalizers.Replace(Regex(" {2,}"), " ")])
    strip = normalizers.Strip(left=False, right=True)
    return normalizers.Sequence([precompiled, strip, normalizers.Replace(Regex(" {2,}"), "▁")])


def train(kind, sentences, model="unigram"):
    """Return a fast tokenizer of the configuration that transformers gives ALBERT or XLM-R."""
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]"]
    if model == "unigram":
        fast = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        fast = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, limit_alphabet=60, show_progress=False
        )
    fast.normalizer = normalizer(kind)
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    fast.train_from_iterator(sentences, trainer)
    fast.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True, normalized=False)])
    fast.add_tokens([AddedToken(mark, normalized=False) for mark in ".-("])
    cls = fast.token_to_id("[CLS]")
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", cls)]
    )
    return fast


@pytest.fixture(scope="module")
def albert(sentences):
    fast = train("albert", sentences)
    fast.add_tokens([AddedToken("Tail", rstrip=True)])
    return SentencePiece(fast, special_roles=ROLES)


@pytest.fixture(scope="module")
def split_at_spaces(sentences):
    """As the files on the hub are, of XLM-RoBERTa and others."""
    fast = train("xlm-roberta", sentences)
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first")
    fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    return SentencePiece(fast, special_tokens_in_text=False)


@pytest.fixture(scope="module")
def bpe(sentences):
    return SentencePiece(train("xlm-roberta", sentences, model="bpe"))


@pytest.fixture(params=["albert", "split_at_spaces", "bpe"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def assert_same(tokenizer, texts):
    batch = tf.constant([text.encode() for text in texts], tf.string)
    ids, starts, ends = tokenizer.tokenize_with_offsets(batch)
    decoded = tokenizer.detokenize(ids).numpy()
    expected = tokenizer.fast.encode_batch(texts, add_special_tokens=False)
    for text, encoding, *got, back in zip(
        texts, expected, ids.to_list(), starts.to_list(), ends.to_list(), decoded, strict=True
    ):
        place = [0]
        for character in text:
            place.append(place[-1] + len(character.encode()))
        offsets = [(place[a], place[b]) for a, b in encoding.offsets]
        assert got[0] == encoding.ids, ascii(text)
        assert list(zip(got[1], got[2], strict=True)) == offsets, ascii(text)
        assert back.decode() == tokenizer.fast.decode(encoding.ids, skip_special_tokens=False)


# ---------------------------------------------------------------- by hand


def by_hand():
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("a", -2.0), ("b", -2.0), ("▁ab", -3.0), ("ba", -3.5)]
    fast = Tokenizer(models.Unigram(pieces, 0, False))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    return fast


def test_ids_and_offsets_by_hand():
    tokenizer = SentencePiece(by_hand())
    ids, starts, ends = tokenizer.tokenize_with_offsets(tf.constant(["aba ab東京é"]))
    # "▁ab" and "a" are -5; "▁", "a" and "ba" are -7.5. What is unknown is one token.
    assert ids.to_list() == [[4, 2, 4, 0]]
    # The space that is put in before the text has no bytes of its own.
    assert starts.to_list() == [[0, 2, 3, 6]]
    assert ends.to_list() == [[2, 3, 6, 14]]
    assert ids.dtype == starts.dtype == ends.dtype == tf.int32
    assert tokenizer.detokenize(ids).numpy().tolist() == [b"aba ab<unk>"]
    assert (tokenizer.unknown_id, tokenizer.vocabulary_size) == (0, 6)
    assert tokenizer.bos_id is tokenizer.pad_id is tokenizer.mask_id is None


# ---------------------------------------------------------------- against Hugging Face


@PROPERTY
@given(texts=st.lists(TEXTS, min_size=1, max_size=9))
def test_equals_fast(albert, texts):
    assert_same(albert, texts)
    expected = albert.fast.encode_batch_fast(texts, add_special_tokens=False)
    ids = albert.tokenize(tf.constant([text.encode() for text in texts]))
    assert ids.to_list() == [encoding.ids for encoding in expected]


@PROPERTY
@given(texts=st.lists(TEXTS, min_size=1, max_size=9))
def test_equals_fast_split_at_spaces_and_special_tokens_as_text(split_at_spaces, texts):
    assert_same(split_at_spaces, texts)


@PROPERTY
@given(texts=st.lists(TEXTS, min_size=1, max_size=9))
def test_equals_fast_with_merges(bpe, texts):
    assert_same(bpe, texts)


def test_sentences(tokenizer, sentences):
    assert_same(tokenizer, [*sentences, " ".join(sentences), "", "東京都" * 300, "a" * 700])


def test_every_assigned_character(albert):
    characters = [chr(c) for c in range(0x110000)]
    assigned = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co", "Cs")]
    assert len(assigned) > 140_000
    pieces = [f"a{c}b {c} 1{c}\u0301" for c in assigned]
    # In rows of 50, to save time.
    texts = assigned[::3] + [" ".join(pieces[i : i + 50]) for i in range(0, len(pieces), 50)]
    ids = albert.tokenize(tf.constant([text.encode() for text in texts]))
    encodings = albert.fast.encode_batch_fast(texts, add_special_tokens=False)
    assert ids.row_lengths().numpy().tolist() == [len(encoding.ids) for encoding in encodings]
    assert ids.values.numpy().tolist() == [i for e in encodings for i in e.ids]


@pytest.mark.slow
def test_random_texts(tokenizer):
    source = random.Random(0)
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    marks = [c for c in characters if unicodedata.category(c)[0] == "M"]
    pools = [characters, marks, characters[:0x250], characters[0x250:0x3000], PARTS, PARTS]
    for _ in range(100):
        texts = [
            "".join(source.choice(source.choice(pools)) for _ in range(source.randint(0, 12)))
            for _ in range(2000)
        ]
        assert_same(tokenizer, texts)


def test_invalid_utf8_is_read_as_python_reads_it(albert):
    rows = [b"\xff", b"a\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98A", b"x\x80y", b"\x00\xfe\x00"]
    expected = albert.fast.encode_batch([row.decode("utf-8", "replace") for row in rows])
    ids, starts, ends = albert.tokenize_with_offsets(tf.constant(rows))
    assert ids.to_list() == [encoding.ids[1:] for encoding in expected]
    assert (ends.values <= tf.repeat([len(row) for row in rows], ids.row_lengths())).numpy().all()


def test_special_tokens_are_recognised_or_not(albert, split_at_spaces):
    text = tf.constant(["a [MASK] b"])
    assert albert.special_tokens["[MASK]"] in albert.tokenize(text).to_list()[0]
    plain, _, _ = split_at_spaces.tokenize_with_offsets(text)
    assert split_at_spaces.special_tokens["[MASK]"] not in plain.to_list()[0]
    again = SentencePiece(albert.fast, special_roles=ROLES, special_tokens_in_text=False)
    assert again.fingerprint != albert.fingerprint


def test_special_tokens_of_the_model_itself_are_found_nevertheless(split_at_spaces):
    """As the docstring warns: `tokenizers` does that, with `encode_special_tokens` too."""
    plain, _, _ = split_at_spaces.tokenize_with_offsets(tf.constant(["a[CLS]b"]))
    assert split_at_spaces.fast.encode_special_tokens
    assert split_at_spaces.fast.encode("a[CLS]b").ids[1:] == plain.to_list()[0]
    assert split_at_spaces.special_tokens["[CLS]"] in plain.to_list()[0]


@PROPERTY
@given(data=st.data())
def test_detokenize_equals_fast(albert, data):
    ids = st.lists(st.integers(0, albert.vocabulary_size + 3), max_size=12)
    rows = data.draw(st.lists(ids, min_size=1, max_size=4))
    batch = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
    for skip in (False, True):
        got = albert.detokenize(batch, skip_special_tokens=skip).numpy()
        expected = [albert.fast.decode(row, skip_special_tokens=skip) for row in rows]
        assert [row.decode() for row in got] == expected


# ---------------------------------------------------------------- in TensorFlow


def test_empty_batch_and_empty_rows(tokenizer):
    ids, _, _ = tokenizer.tokenize_with_offsets(tf.constant(["", "", ""]))
    assert ids.to_list() == [[], [], []]
    ids, _, _ = tokenizer.tokenize_with_offsets(tf.constant([], tf.string))
    assert ids.shape[0] == 0
    assert tokenizer.detokenize(ids).shape == [0]


def test_a_bundle_tokenizes(albert, tmp_path):
    """The gate loads it in a process without TensorFlow's Python, and compares."""
    module = tf.Module()
    module.tokenizer = albert

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def serve(texts):
        ids, starts, ends = albert.tokenize_with_offsets(texts)
        spans = tf.stack([ids, starts, ends], axis=-1)
        return {
            "tokens": tf.cast(spans.to_tensor(default_value=-1), tf.float32),
            "text": albert.detokenize(ids, skip_special_tokens=True),
        }

    definition = serve.get_concrete_function().graph.as_graph_def()
    operations = {node.op for function in definition.library.function for node in function.node_def}
    assert not {op for op in operations if "PyFunc" in op or op.startswith("MutableHash")}
    # RE2's classes aren't Hugging Face's, so nothing may hang on a regex.
    assert not {op for op in operations if "Regex" in op}
    texts = ["The [MASK] brown  fox", "", "東京 ﬁ™\x01x"]
    version = export_bundle({"serving_default": serve}, tmp_path, "spiece", modules=[module])
    assert (version / "saved_model.pb").stat().st_size < 3_000_000
    with Session(version) as session:
        got = session.run("serving_default", {"texts": texts})
    expected = serve(tf.constant(texts))
    assert got["tokens"].tolist() == expected["tokens"].numpy().tolist()
    assert list(got["text"]) == expected["text"].numpy().tolist()


# ---------------------------------------------------------------- what is refused


def refused(change):
    state = json.loads(by_hand().to_str())
    change(state)
    return json.dumps(state)


WHITESPACE = {"type": "WhitespaceSplit"}


@pytest.mark.parametrize(
    "change,named",
    [
        (lambda s: s["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda s: s["model"].update(unk_id=None), "unk_id"),
        (lambda s: s["model"].update(vocab=[["a", 11.0]], unk_id=0), "scores"),
        (lambda s: s["model"]["vocab"].append(["", -1.0]), "empty piece"),
        (lambda s: s["model"].update(type="WordLevel"), "WordLevel"),
        (lambda s: s.update(model={"type": "BPE", "vocab": {"a": 0}, "merges": []}), "unk_token"),
        (lambda s: s.update(pre_tokenizer=None), "pre-tokenizer"),
        (lambda s: s.update(pre_tokenizer=WHITESPACE), "WhitespaceSplit"),
        (lambda s: s["pre_tokenizer"].update(replacement="_"), "another sign"),
        (lambda s: s.update(decoder={"type": "ByteFallback"}), "ByteFallback"),
        (lambda s: s.update(normalizer={"type": "NFC"}), "NFC"),
        (lambda s: s.update(post_processor={"type": "ByteLevel"}), "ByteLevel"),
    ],
)
def test_what_the_graph_does_not_do_is_refused(change, named):
    with pytest.raises(InputError, match=named) as caught:
        SentencePiece(refused(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tokens,named",
    [
        ([AddedToken("<x>", single_word=True)], "single_word"),
        ([AddedToken("<x> ", lstrip=True)], "space at its end"),
        ([AddedToken("x"), AddedToken("X")], "normalized"),
    ],
)
def test_added_tokens_that_are_refused(tokens, named):
    fast = by_hand()
    fast.normalizer = normalizers.Lowercase()
    fast.add_tokens(tokens)
    with pytest.raises(InputError, match=named):
        SentencePiece(fast)


def test_no_json_and_unknown_roles_are_refused():
    for text in ("", "{", "[]", "{}"):
        with pytest.raises(InputError):
            SentencePiece(text)
    with pytest.raises(InputError, match="start_token"):
        SentencePiece(by_hand(), special_roles={"start_token": "a"})
    with pytest.raises(InputError, match="<nowhere>"):
        SentencePiece(by_hand(), special_roles={"bos_token": "<nowhere>"})
