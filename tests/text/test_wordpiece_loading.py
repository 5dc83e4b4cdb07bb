import json

import pytest
import tensorflow as tf
from transformers import AutoTokenizer, BertTokenizerFast

from tfllm.errors import InputError
from tfllm.text import load
from tfllm.text.wordpiece import WordPiece
from tfllm.text.wordpiece_training import train_wordpiece

TEXTS = ["The [MASK] über\u0301 FOX[SEP]", "東京 ABC é", "", "[unk] <new>New"]


@pytest.fixture(scope="module")
def tokenizer(sentences):
    return train_wordpiece(sentences, 250)


def ids(tokenizer):
    """Return what `fast` gives: other tests show that the graph gives the same, in less time."""
    return [tokenizer.fast.encode(text, add_special_tokens=False).ids for text in TEXTS]


def theirs_ids(theirs):
    return theirs(TEXTS, add_special_tokens=False)["input_ids"]


def vocabulary_alone(tokenizer, folder, **config):
    tokenizer.save(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "special_tokens_map.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_save_and_load(tokenizer, tmp_path):
    folder = tmp_path / "new" / "folder"
    tokenizer.save(folder)
    again = load(folder)
    assert isinstance(again, WordPiece)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.special_roles == tokenizer.special_roles
    assert again.tokenize(tf.constant(TEXTS)).to_list() == ids(tokenizer)
    assert sorted(path.name for path in folder.iterdir()) == [
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_reads_and_writes_the_same(sentences, tmp_path, lowercase):
    tokenizer = train_wordpiece(sentences, 250, lowercase=lowercase)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(theirs, BertTokenizerFast)
    assert theirs_ids(theirs) == ids(tokenizer)
    assert theirs.pad_token_id == tokenizer.pad_id
    assert theirs.mask_token_id == tokenizer.mask_id
    assert theirs.cls_token_id == tokenizer.cls_id
    assert theirs.sep_token_id == tokenizer.sep_id
    assert len(theirs) == tokenizer.vocabulary_size
    theirs.save_pretrained(tmp_path / "theirs")
    assert load(tmp_path / "theirs").fingerprint == tokenizer.fingerprint
    (tmp_path / "theirs" / "tokenizer.json").unlink()
    from_vocabulary = load(tmp_path / "theirs")
    assert ids(from_vocabulary) == ids(tokenizer)
    assert from_vocabulary.special_tokens == tokenizer.special_tokens


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    ],
)
def test_the_vocabulary_alone(tokenizer, tmp_path, config):
    vocabulary_alone(tokenizer, tmp_path, **config)
    theirs = BertTokenizerFast.from_pretrained(tmp_path)
    ours = load(tmp_path)
    assert ids(ours) == theirs_ids(theirs)
    assert ours.special_roles == theirs.special_tokens_map
    assert json.loads(ours.fast.to_str()) == json.loads(theirs.backend_tokenizer.to_str())


@pytest.mark.parametrize("kind", ["BertTokenizer", "PreTrainedTokenizerFast", None])
def test_who_overrules_tokenizer_json(tokenizer, tmp_path, kind):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = {**json.loads(path.read_text()), "tokenizer_class": kind, "do_lower_case": False}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    ours = load(tmp_path)
    lowercase = json.loads(ours.fast.to_str())["normalizer"]["lowercase"]
    assert lowercase is (kind == "PreTrainedTokenizerFast")
    if kind is not None:
        assert ids(ours) == theirs_ids(AutoTokenizer.from_pretrained(tmp_path))


def test_plain_special_tokens_are_remembered(tokenizer, tmp_path):
    plain = WordPiece(
        tokenizer.fast, special_roles=tokenizer.special_roles, special_tokens_in_text=False
    )
    plain.save(tmp_path)
    assert not load(tmp_path).special_tokens_in_text
    assert load(tmp_path, special_tokens_in_text=True).fingerprint == tokenizer.fingerprint
    assert theirs_ids(AutoTokenizer.from_pretrained(tmp_path)) == ids(plain)


def test_added_tokens_file(tokenizer, tmp_path):
    vocabulary_alone(tokenizer, tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<new>": 250}))
    assert ids(load(tmp_path)) == theirs_ids(BertTokenizerFast.from_pretrained(tmp_path))


def test_what_cannot_be_loaded(tokenizer, tmp_path):
    vocabulary_alone(tokenizer, tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\na\n")
    with pytest.raises(InputError, match=r"no sep_token, such as \[SEP\]"):
        load(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="can't be read as UTF-8"):
        load(tmp_path)


def test_a_model_of_another_kind_is_named(tokenizer, tmp_path):
    state = json.loads(tokenizer.fast.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**state, "normalizer": {"type": "NFC"}}))
    with pytest.raises(InputError, match=f"{tmp_path}: A normalizer other than BertNormalizer"):
        load(tmp_path)
    state["model"] = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="WordLevel"):
        load(tmp_path)
