import json
import random
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers

from tfllm.errors import InputError
from tfllm.text.sentencepiece_charsmap import LONGEST_KEY, pack_charsmap, read_charsmap
from tfllm.text.sentencepiece_normalizer import SentencePieceNormalizer, is_space
from tfllm.text.sentencepiece_text import TracedText

REPLACEMENTS = {
    "\t": " ", "\n": " ", "\r": " ", "\x01": "", "\x02": "", "\u200b": " ", "\u00a0": " ",
    "a\u0301": "á", "e\u0301": "é", "e\u0301\u0302": "?", "\u0915\u093c": "\u0958",
    "\u0340": "\u0300", "ﬁ": "fi", "™": "TM", "½": "1⁄2", "…": "...", "Å": "A", "©": "(c)",
    "\u1100": "ㄱ", "🤗": ":)",
}  # fmt: skip
# What graphemes are made of, and what the steps look for.
PARTS = [
    *REPLACEMENTS, *"abe `'\"\r\n\t\x01\x02", "``", "'''", "  ", "   ", "\u0301", "\u0302",
    "\u0323", "\u0340", "\u200d", "\ufe0f", "\u0600", "\u0903", "\u093c", "\u094d", "\u0915",
    "\u0937", "\u1100", "\u1161", "\u11a8", "가", "각", "❤", "©", "🤗", "🏽", "🇩", "🇪",
    "İ", "ß", "ǅ", "ﬁ", "™", "\u0344", "\u0f77", "\u302e", "\U0001d165", "\u2028",
    "\u3000", "\ufeff", "\U0010ffff", "▁",
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=12), st.lists(st.sampled_from(PARTS), max_size=9).map("".join))
PROPERTY = settings(max_examples=40, deadline=None)


def precompiled():
    return normalizers.Precompiled(pack_charsmap(REPLACEMENTS))


def albert():
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()]
    steps += [normalizers.StripAccents(), normalizers.Lowercase(), precompiled()]
    return normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])


def others():
    steps = [normalizers.StripAccents(), normalizers.Strip(left=True, right=True)]
    return normalizers.Sequence([*steps, normalizers.Replace("a", "b"), normalizers.Lowercase()])


KINDS = {"albert": albert, "precompiled": precompiled, "others": others}


def state_of(normalizer):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    return json.loads(tokenizer.to_str())["normalizer"]


@pytest.fixture(scope="module")
def normalize():
    """Return kind, texts → normalized texts, in graph."""
    functions = {}

    def function(kind):
        normalizer = SentencePieceNormalizer(state_of(KINDS[kind]()))
        signature = [tf.TensorSpec([None], tf.int32)] * 2

        @tf.function(input_signature=signature, autograph=False)
        def run(code_points, segments):
            return normalizer(TracedText(code_points, tf.range(tf.size(segments)), segments))

        return run

    def call(kind, texts):
        if kind not in functions:
            functions[kind] = function(kind)
        code_points = np.array([ord(c) for text in texts for c in text], np.int32)
        segments = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        result = functions[kind](code_points, segments.astype(np.int32))
        ends = np.searchsorted(result.segments.numpy(), np.arange(len(texts)), side="right")
        found = result.code_points.numpy().astype("<u4").tobytes().decode("utf-32-le")
        return [found[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    return call


@pytest.mark.parametrize("kind", KINDS)
@PROPERTY
@given(texts=st.lists(TEXTS, min_size=1, max_size=9))
def test_equals_tokenizers(normalize, kind, texts):
    reference = KINDS[kind]()
    assert normalize(kind, texts) == [reference.normalize_str(text) for text in texts]


def test_graphemes_of_random_marks(normalize):
    """Only where graphemes start decides what is dropped here."""
    source = random.Random(0)
    marks = [chr(c) for c in range(0x300, 0x1F000) if unicodedata.category(chr(c))[0] in "MC"]
    marks = [c for c in marks if unicodedata.category(c) not in ("Cs", "Co", "Cn")]
    pools = [PARTS, PARTS, list(REPLACEMENTS), marks]
    texts = [
        "".join(source.choice(source.choice(pools)) for _ in range(source.randint(1, 7)))
        for _ in range(2000)
    ]
    reference = precompiled()
    assert normalize("precompiled", texts) == [reference.normalize_str(text) for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["albert", "precompiled"])
def test_every_character_there_may_be(normalize, kind):
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    reference = KINDS[kind]()
    form = "a{}\u0301 {}e\u0301 {}\u0340\u0301 \u0915{}\u0915\u0301"
    for begin in range(0, len(characters), 20_000):
        texts = [form.replace("{}", c) for c in characters[begin : begin + 20_000]]
        assert normalize(kind, texts) == [reference.normalize_str(text) for text in texts]


def test_spaces_are_those_of_tokenizers():
    code_points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    spaces = is_space(tf.constant(code_points)).numpy()
    found = {chr(c) for c, space in zip(code_points, spaces, strict=True) if space}
    strip = normalizers.Strip()
    assert found == {c for c in map(chr, code_points[:0x4000]) if not strip.normalize_str(c)}
    assert {" ", "\n", "\x85", "\u3000"} <= found and not found & {"\x1c", "\u200b", "\u180e"}


# ---------------------------------------------------------------- the table in model files


@given(
    replacements=st.dictionaries(
        st.text(min_size=1, max_size=4).filter(
            lambda key: "\0" not in key and len(key.encode()) <= LONGEST_KEY
        ),
        st.text(max_size=4).filter(lambda text: "\0" not in text),
        max_size=9,
    )
)
def test_charsmap_round_trip(replacements):
    blob = pack_charsmap(replacements)
    assert read_charsmap(blob) == replacements
    reference = normalizers.Precompiled(blob)
    for key, text in replacements.items():
        if len(key) == 1:
            assert reference.normalize_str(key) == text


@pytest.mark.parametrize("blob", [b"", b"\x00", b"\xff\xff\xff\x00", b"\x08\x00\x00\x00aaaa\xffx"])
def test_a_damaged_charsmap_is_refused(blob):
    with pytest.raises(InputError, match="precompiled_charsmap"):
        read_charsmap(blob)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "normalizer,named",
    [
        (normalizers.NFKD(), "NFKD"),
        (normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]), "StripAccents"),
        (normalizers.NFC(), "NFC"),
        (normalizers.Replace("ab", "c"), "Replace"),
        (normalizers.Replace("a", "bc"), "Replace"),
        (normalizers.Replace(Regex(r"\s+"), " "), "Replace"),
    ],
)
def test_what_the_graph_does_not_do_is_refused(normalizer, named):
    with pytest.raises(InputError, match=named) as caught:
        SentencePieceNormalizer(state_of(normalizer))
    assert "\n" not in str(caught.value)
