import json

import pytest
import tensorflow as tf
from transformers import AutoTokenizer, GPT2TokenizerFast, RobertaTokenizerFast

from tfllm.errors import InputError
from tfllm.text import ByteLevelBPE, load

TEXTS = ["It's <mask> the<|endoftext|>  fox", " <s>東京 </s>", "", "<tail>  x é"]


@pytest.fixture(params=["gpt2", "roberta"])
def tokenizer(request, tiny, tiny_roberta):
    return {"gpt2": tiny, "roberta": tiny_roberta}[request.param]


def ids(tokenizer):
    """Return what `fast` gives: other tests show that the graph gives the same, in less time."""
    return [tokenizer.fast.encode(text, add_special_tokens=False).ids for text in TEXTS]


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new" / "folder")
    again = load(tmp_path / "new" / "folder")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.special_tokens == tokenizer.special_tokens
    assert (again.bos_id, again.eos_id, again.pad_id) == (
        tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id,
    )  # fmt: skip
    assert ids(again) == ids(tokenizer)
    assert again.tokenize(tf.constant(TEXTS)).to_list() == ids(tokenizer)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
        "vocab.json",
    ]  # fmt: skip


def test_transformers_reads_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(theirs, GPT2TokenizerFast | RobertaTokenizerFast)
    assert theirs(TEXTS, add_special_tokens=False)["input_ids"] == ids(tokenizer)
    assert theirs.bos_token_id == tokenizer.bos_id
    assert theirs.eos_token_id == tokenizer.eos_id
    assert theirs.pad_token_id == tokenizer.pad_id
    assert len(theirs) == tokenizer.vocabulary_size
    theirs_offsets = theirs(TEXTS, return_offsets_mapping=True, add_special_tokens=False)
    for text, got in zip(TEXTS, theirs_offsets["offset_mapping"], strict=True):
        assert got == tokenizer.fast.encode(text, add_special_tokens=False).offsets


def test_plain_special_tokens_are_remembered(tiny, tmp_path):
    plain = ByteLevelBPE(tiny.fast, special_roles=tiny.special_roles, special_tokens_in_text=False)
    plain.save(tmp_path)
    assert not load(tmp_path).special_tokens_in_text
    assert load(tmp_path, special_tokens_in_text=True).fingerprint == tiny.fingerprint
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(TEXTS, add_special_tokens=False)["input_ids"] == ids(plain)


def test_transformers_writes_what_is_read(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert ids(load(tmp_path / "theirs")) == ids(tokenizer)
    (tmp_path / "theirs" / "tokenizer.json").unlink()
    from_vocabulary = load(tmp_path / "theirs")
    assert ids(from_vocabulary) == ids(tokenizer)
    assert from_vocabulary.special_tokens == tokenizer.special_tokens


def test_vocabulary_and_merges_alone(tiny, tmp_path):
    tiny.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    again = load(str(tmp_path))
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    assert ids(again) == theirs(TEXTS)["input_ids"]
    assert again.eos_id == again.bos_id == theirs.eos_token_id
    assert again.special_tokens == {"<|endoftext|>": 0}


def test_added_tokens_file(tiny, tmp_path):
    tiny.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<new>": 401, "<old>": 400}))
    again = load(tmp_path)
    assert again.vocabulary_size == 402
    assert again.fast.encode("<old><new>").ids == [400, 401]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<new>": 500}))
    with pytest.raises(InputError, match="<new>.*500"):
        load(tmp_path)


def test_what_cannot_be_loaded(tiny, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"neither tokenizer.json, .* Found: none of them\.$"):
        load(tmp_path)
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Did you mean .*/run/model\?$"):
        load(tmp_path / "run")
    tiny.save(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        load(tmp_path / "vocab.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="tokenizer.json can't be read"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(InputError, match="isn't what tokenizers writes"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_text("no such\n")
    with pytest.raises(InputError, match="doesn't go with"):
        load(tmp_path)


def test_no_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    with pytest.raises(InputError, match="nobody/nothing") as caught:
        load("nobody/nothing")
    assert "\n" not in str(caught.value)
