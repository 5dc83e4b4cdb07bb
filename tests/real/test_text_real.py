"""Byte-level BPE against Hugging Face with the real vocabularies, over the shared data."""

import os
from pathlib import Path

import pytest

SHARED = Path(
    os.environ.get("TFLLM_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)

pytestmark = pytest.mark.skipif(
    not (SHARED / "vocab").is_dir(),
    reason=f"there is no {SHARED}/vocab; set TFLLM_SHARED_DATA to the folder of the data",
)


@pytest.fixture(scope="module", params=["gpt2", "roberta-base"])
def tokenizer(request):
    from tfllm.text import load

    return load(SHARED / "vocab" / request.param)


@pytest.fixture(scope="module")
def theirs(tokenizer):
    from transformers import GPT2TokenizerFast, RobertaTokenizerFast

    if tokenizer.mask_id is None:
        return GPT2TokenizerFast.from_pretrained(SHARED / "vocab" / "gpt2")
    return RobertaTokenizerFast.from_pretrained(SHARED / "vocab" / "roberta-base")


def assert_same(tokenizer, theirs, texts):
    import tensorflow as tf

    for begin in range(0, len(texts), 1000):
        some = texts[begin : begin + 1000]
        batch = tf.constant([text.encode() for text in some])
        ids, starts, ends = tokenizer.tokenize_with_offsets(batch)
        expected = theirs(some, add_special_tokens=False, return_offsets_mapping=True)
        assert ids.to_list() == expected["input_ids"]
        assert tokenizer.tokenize(batch).to_list() == expected["input_ids"]
        back = tokenizer.detokenize(ids).numpy()
        for i, (text, begins, finishes) in enumerate(
            zip(some, starts.to_list(), ends.to_list(), strict=True)
        ):
            place = [0]
            for character in text:
                place.append(place[-1] + len(character.encode()))
            offsets = [(place[a], place[b]) for a, b in expected["offset_mapping"][i]]
            assert list(zip(begins, finishes, strict=True)) == offsets, text
            assert back[i].decode() == tokenizer.fast.decode(
                expected["input_ids"][i], skip_special_tokens=False
            )


def test_special_ids(tokenizer, theirs):
    assert tokenizer.vocabulary_size == len(theirs)
    assert tokenizer.bos_id == theirs.bos_token_id
    assert tokenizer.eos_id == theirs.eos_token_id
    assert tokenizer.pad_id == theirs.pad_token_id
    assert tokenizer.mask_id == theirs.mask_token_id


def test_naughty_strings(tokenizer, theirs):
    import json

    path = SHARED / "tokenizer_vectors" / "blns.json"
    assert_same(tokenizer, theirs, json.loads(path.read_text(encoding="utf-8")))


def test_llama_cpp_vectors(tokenizer):
    import tensorflow as tf

    if tokenizer.mask_id is not None:
        pytest.skip("the vectors are GPT-2's")
    folder = SHARED / "tokenizer_vectors"
    texts = (folder / "ggml-vocab-gpt-2.gguf.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = (folder / "ggml-vocab-gpt-2.gguf.out").read_text().split("\n")
    expected = [[int(token) for token in line.split()] for line in lines[: len(texts)]]
    assert tokenizer.tokenize(tf.constant(texts)).to_list() == expected


def test_language_modelling_lines(tokenizer, theirs):
    lines = (SHARED / "lm" / "wikitext-2" / "wiki.test.tokens").read_text("utf-8").split("\n")
    assert_same(tokenizer, theirs, lines)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["lm", "classification"])
def test_all_lines(tokenizer, theirs, folder):
    files = sorted(path for path in (SHARED / folder).rglob("*") if path.is_file())
    assert files
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        assert_same(tokenizer, theirs, text.split("\n"))
        # Long rows too.
        assert_same(tokenizer, theirs, [text[i : i + 50_000] for i in range(0, 500_000, 50_000)])


@pytest.mark.slow
def test_every_character_between_letters(tokenizer, theirs):
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    assert_same(tokenizer, theirs, [f"a{c}b {c} 1{c}" for c in characters])
