"""SentencePiece against transformers' AlbertTokenizerFast, over the shared data."""

import json
import random
import unicodedata

import pytest


@pytest.fixture(scope="module")
def tokenizer(data):
    from tfllm.text.sentencepiece_loading import load_sentencepiece

    return load_sentencepiece({"spiece.model": data / "vocab" / "albert" / "spiece.model"}, {})


@pytest.fixture(scope="module")
def theirs(data):
    pytest.importorskip("sentencepiece")
    from transformers import AlbertTokenizerFast

    return AlbertTokenizerFast(str(data / "vocab" / "albert" / "spiece.model"))


def assert_same(tokenizer, theirs, texts):
    import tensorflow as tf

    for begin in range(0, len(texts), 2000):
        some = texts[begin : begin + 2000]
        batch = tf.constant([text.encode() for text in some])
        ids, starts, ends = (x.to_list() for x in tokenizer.tokenize_with_offsets(batch))
        expected = theirs(some, add_special_tokens=False, return_offsets_mapping=True)
        assert ids == expected["input_ids"]
        assert tokenizer.tokenize(batch).to_list() == ids
        back = tokenizer.detokenize(tf.ragged.constant(ids, tf.int32, ragged_rank=1)).numpy()
        for i, text in enumerate(some):
            place = [0]
            for character in text:
                place.append(place[-1] + len(character.encode()))
            offsets = [(place[a], place[b]) for a, b in expected["offset_mapping"][i]]
            assert list(zip(starts[i], ends[i], strict=True)) == offsets, text
            assert back[i].decode() == theirs.backend_tokenizer.decode(
                ids[i], skip_special_tokens=False
            )


def test_configuration_and_special_ids(tokenizer, theirs):
    state = json.loads(theirs.backend_tokenizer.to_str())
    assert json.loads(tokenizer.fast.to_str()) == state
    assert tokenizer.vocabulary_size == len(theirs)
    assert tokenizer.special_roles == theirs.special_tokens_map
    assert tokenizer.mask_id == theirs.mask_token_id


def test_naughty_strings(tokenizer, theirs, data):
    path = data / "tokenizer_vectors" / "blns.json"
    assert_same(tokenizer, theirs, json.loads(path.read_text(encoding="utf-8")))


def test_language_modelling_lines(tokenizer, theirs, data):
    lines = (data / "lm" / "wikitext-2" / "wiki.test.tokens").read_text("utf-8").split("\n")
    assert_same(tokenizer, theirs, lines)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["lm", "classification", "ner/weibo_zh", "translation"])
def test_all_lines(tokenizer, theirs, data, folder):
    files = sorted(path for path in (data / folder).rglob("*") if path.is_file())
    assert files
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        assert_same(tokenizer, theirs, text.split("\n"))
        # Long rows too.
        assert_same(tokenizer, theirs, [text[i : i + 20_000] for i in range(0, 100_000, 20_000)])


@pytest.mark.slow
def test_every_assigned_character(tokenizer, theirs):
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    assigned = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co")]
    assert_same(tokenizer, theirs, assigned)
    assert_same(tokenizer, theirs, [f"a{c}b {c} 1{c}\u0301" for c in assigned])


@pytest.mark.slow
def test_random_texts(tokenizer, theirs):
    source = random.Random(0)
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    marks = [c for c in characters if unicodedata.category(c)[0] == "M"]
    pieces = list(tokenizer.fast.get_vocab())
    pools = [characters, marks, characters[:0x250], characters[0x250:0x3000], pieces, pieces]
    for _ in range(100):
        texts = [
            "".join(source.choice(source.choice(pools)) for _ in range(source.randint(0, 12)))
            for _ in range(2000)
        ]
        assert_same(tokenizer, theirs, texts)
