"""WordPiece against Hugging Face with the real vocabularies, over the shared data."""

import json
import random
import unicodedata

import pytest

CONFIGURATIONS = {
    "uncased": ("bert-base-uncased", True),
    "cased": ("bert-base-uncased", False),
    "chinese": ("bert-base-chinese", True),
}
FOLDERS = ["lm", "classification", "ner", "translation"]


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def tokenizer(request, data):
    from transformers import BertTokenizerFast

    from tfllm.text.wordpiece import WordPiece

    name, lowercase = CONFIGURATIONS[request.param]
    theirs = BertTokenizerFast.from_pretrained(data / "vocab" / name, do_lower_case=lowercase)
    return WordPiece(theirs.backend_tokenizer, special_roles=theirs.special_tokens_map)


def assert_same(tokenizer, texts):
    import tensorflow as tf

    for begin in range(0, len(texts), 5000):
        some = texts[begin : begin + 5000]
        batch = tf.constant([text.encode() for text in some])
        encodings = tokenizer.fast.encode_batch(some, add_special_tokens=False)
        expected = [encoding.ids for encoding in encodings]
        assert tokenizer.tokenize(batch).to_list() == expected
        ids, starts, ends = tokenizer.tokenize_with_offsets(batch)
        assert ids.to_list() == expected
        back = tokenizer.detokenize(ids).numpy()
        for i, (text, first, end) in enumerate(
            zip(some, starts.to_list(), ends.to_list(), strict=True)
        ):
            place = [0]
            for character in text:
                place.append(place[-1] + len(character.encode()))
            offsets = [(place[a], place[b]) for a, b in encodings[i].offsets]
            assert list(zip(first, end, strict=True)) == offsets, text
            decoded = tokenizer.fast.decode(expected[i], skip_special_tokens=False)
            assert back[i].decode() == decoded


def test_loading_the_vocabulary_alone(data):
    from transformers import BertTokenizerFast

    from tfllm.text import load

    folder = data / "vocab" / "bert-base-uncased"
    theirs = BertTokenizerFast.from_pretrained(folder)
    ours = load(folder)
    assert json.loads(ours.fast.to_str()) == json.loads(theirs.backend_tokenizer.to_str())
    assert ours.special_roles == theirs.special_tokens_map
    assert ours.vocabulary_size == len(theirs)


def test_naughty_strings(tokenizer, data):
    path = data / "tokenizer_vectors" / "blns.json"
    assert_same(tokenizer, json.loads(path.read_text(encoding="utf-8")))


def test_llama_cpp_vectors(tokenizer, data):
    folder = data / "tokenizer_vectors"
    rows = (folder / "ggml-vocab-bert-bge.gguf.inp").read_bytes()
    assert_same(tokenizer, [row.decode() for row in rows.split(b"\n__ggml_vocab_test__\n")])


def test_language_modelling_lines(tokenizer, data):
    lines = (data / "lm" / "wikitext-2" / "wiki.test.tokens").read_text("utf-8").split("\n")
    assert_same(tokenizer, lines)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_all_lines(tokenizer, data, folder):
    files = sorted(path for path in (data / folder).rglob("*") if path.is_file())
    assert files
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        assert_same(tokenizer, text.split("\n"))
        # Long rows too.
        assert_same(tokenizer, [text[i : i + 50_000] for i in range(0, 500_000, 50_000)])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}", "a{}b"])
def test_every_character(tokenizer, form):
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    assert_same(tokenizer, [form.format(c) for c in characters])


@pytest.mark.slow
def test_random_strings(tokenizer):
    random_number = random.Random(0)
    characters = [chr(c) for c in range(0x30000) if not 0xD800 <= c < 0xE000]
    pools = [
        characters[32:127],
        characters[:0x300],
        characters[0x4E00:0x9FFF],
        characters,
        [c for c in characters if unicodedata.combining(c)],
        ["[MASK]", "[SEP]", "[mask]", "##", "the", "ing", " ", "\u00a0", "\x00", "\ufffd", "가"],
        ["x" * 99, "é" * 101],
    ]
    weights = [4, 3, 1, 2, 2, 4, 0.05]

    def text():
        count = random_number.randrange(25)
        chosen = random_number.choices(pools, weights, k=count)
        return "".join(random_number.choice(pool) for pool in chosen)

    assert_same(tokenizer, [text() for _ in range(200_000)])
