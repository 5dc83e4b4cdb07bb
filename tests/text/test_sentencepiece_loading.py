import json
import struct

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tfllm.errors import InputError
from tfllm.text.sentencepiece_charsmap import pack_charsmap
from tfllm.text.sentencepiece_loading import load_sentencepiece
from tfllm.text.sentencepiece_model_file import ModelFile, ModelPiece

TEXTS = ["It's [MASK] the<sep> fox.", " <s>東京 </s> (12,", "", "<unk> x\té ``q''", "  a   b  "]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
SPECIAL = {
    "albert": [("<pad>", CONTROL), ("<unk>", UNKNOWN), *[
        (text, CONTROL) for text in ("[CLS]", "[SEP]", "[MASK]")
    ], ("(", USER_DEFINED), (".", USER_DEFINED)],
    "xlnet": [("<unk>", UNKNOWN), *[
        (text, CONTROL) for text in ("<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>")
    ], ("<eop>", USER_DEFINED)],
    "xlm-roberta": [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)],
}  # fmt: skip
FILES = dict.fromkeys(SPECIAL, "spiece.model") | {"xlm-roberta": "sentencepiece.bpe.model"}
CLASSES = {
    "albert": "AlbertTokenizerFast",
    "xlnet": "XLNetTokenizerFast",
    "xlm-roberta": "XLMRobertaTokenizerFast",
}
FAMILIES = [(family, kind) for family in SPECIAL for kind in ("unigram", "bpe")]


# ---------------------------------------------------------------- writing a model file


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def model_bytes(pieces, kind, unknown_id, charsmap):
    """What SentencePiece's trainer writes, with a field of each kind that is not heeded."""
    listed = b"".join(
        field(1, field(1, text.encode()) + field(2, score) + (field(3, kind) if kind != 1 else b""))
        for text, score, kind in pieces
    )
    training = field(3, {"unigram": 1, "bpe": 2, "char": 4}[kind]) + field(4, len(pieces))
    training += field(40, unknown_id) + field(10, 0.9995) + field(1, b"a.txt")
    return listed + field(2, training) + field(3, field(1, b"nmt") + field(2, charsmap))


@pytest.fixture(scope="session")
def learned(sentences):
    """Kind → pieces and scores, and ", " among them."""
    found = {}
    fast = Tokenizer(models.Unigram())
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="<u>", show_progress=False)
    fast.train_from_iterator(sentences, trainer)
    vocabulary = json.loads(fast.to_str())["model"]["vocab"]
    found["unigram"] = [(text, score) for text, score in vocabulary if text != "<u>"]
    found["unigram"].append(("12,", -4.2))
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.train_from_iterator(sentences, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    texts = sorted(fast.get_vocab(), key=fast.token_to_id)
    # As SentencePiece numbers them: merges first, then letters.
    texts = [t for t in texts if len(t) > 1] + [t for t in texts if len(t) == 1]
    found["bpe"] = [(text, -float(i)) for i, text in enumerate(texts)]
    return found


@pytest.fixture(params=FAMILIES, ids=lambda param: "-".join(param))
def folder(request, learned, tmp_path):
    family, kind = request.param
    write(tmp_path / FILES[family], family, kind, learned)
    (tmp_path / "family").write_text(family)
    return tmp_path


def write(path, family, kind, learned):
    special = [(text, 0.0, piece_kind) for text, piece_kind in SPECIAL[family]]
    there = {text for text, _, _ in special}
    pieces = special + [(t, s, NORMAL) for t, s in learned[kind] if t not in there]
    unknown_id = [text for text, _, _ in special].index("<unk>")
    charsmap = pack_charsmap({"\t": " ", "ﬁ": "fi", "…": "..."})
    path.write_bytes(model_bytes(pieces, kind, unknown_id, charsmap))


def files_in(folder):
    return {path.name: path for path in folder.iterdir()}


def fast_ids(fast):
    return [fast.encode(text, add_special_tokens=False).ids for text in TEXTS]


# ---------------------------------------------------------------- reading


def test_equals_what_transformers_makes_of_a_model_file(folder):
    pytest.importorskip("sentencepiece")
    import transformers

    family = (folder / "family").read_text()
    theirs = getattr(transformers, CLASSES[family]).from_pretrained(folder)
    ours = load_sentencepiece(files_in(folder), {})
    assert json.loads(ours.fast.to_str()) == json.loads(theirs.backend_tokenizer.to_str())
    for role, text in theirs.special_tokens_map.items():
        if role != "additional_special_tokens":
            assert ours.special_roles[role] == text
    assert (ours.bos_id, ours.pad_id) == (theirs.bos_token_id, theirs.pad_token_id)
    assert (ours.cls_id, ours.sep_id) == (theirs.cls_token_id, theirs.sep_token_id)
    assert (ours.mask_id, ours.eos_id) == (theirs.mask_token_id, theirs.eos_token_id)


def test_save_and_load(folder, tmp_path):
    from transformers import AutoTokenizer

    first = load_sentencepiece(files_in(folder), {})
    first.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    again = load_sentencepiece(files_in(tmp_path / "saved"), config)
    # Scores are the same to the last bit, or else this would differ.
    assert again.fingerprint == first.fingerprint
    assert again.special_roles == first.special_roles
    assert again.special_tokens == first.special_tokens
    assert fast_ids(again.fast) == fast_ids(first.fast)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(theirs).__name__ == CLASSES[(folder / "family").read_text()]
    assert theirs(TEXTS, add_special_tokens=False)["input_ids"] == fast_ids(first.fast)
    assert (theirs.pad_token_id, theirs.mask_token_id) == (first.pad_id, first.mask_id)


def test_model_file(learned, tmp_path):
    write(tmp_path / "spiece.model", "albert", "unigram", learned)
    model = ModelFile.read(tmp_path / "spiece.model")
    assert model.pieces[:2] == [ModelPiece("<pad>", 0.0, 3), ModelPiece("<unk>", 0.0, 2)]
    assert (model.model_type, model.unknown_id, model.unknown_piece) == ("unigram", 1, "<unk>")
    reference = normalizers.Precompiled(model.charsmap)
    assert reference.normalize_str("a\tﬁ") == "a fi"


def test_lower_casing_and_accents_are_heeded(learned, tmp_path):
    write(tmp_path / "spiece.model", "albert", "unigram", learned)
    config = {"do_lower_case": False, "keep_accents": True, "split_special_tokens": True}
    tokenizer = load_sentencepiece(files_in(tmp_path), config)
    assert tokenizer.fast.normalizer.normalize_str("É") == "É"
    assert not tokenizer.special_tokens_in_text
    assert load_sentencepiece(files_in(tmp_path), {}).fast.normalizer.normalize_str("É") == "e"


def test_added_tokens_files(learned, tmp_path):
    write(tmp_path / "spiece.model", "albert", "unigram", learned)
    size = load_sentencepiece(files_in(tmp_path), {}).vocabulary_size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"newword": size}))
    assert load_sentencepiece(files_in(tmp_path), {}).fast.encode("newword").ids[1:-1] == [size]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"newword": size + 9}))
    with pytest.raises(InputError, match=f"newword.*{size + 9}"):
        load_sentencepiece(files_in(tmp_path), {})


# ---------------------------------------------------------------- what is refused


def test_a_file_cut_off_anywhere_is_refused(learned, tmp_path):
    path = tmp_path / "spiece.model"
    write(path, "albert", "unigram", learned)
    content = path.read_bytes()
    for size in (0, 1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="spiece.model") as caught:
            load_sentencepiece(files_in(tmp_path), {})
        assert "\n" not in str(caught.value)


def test_what_cannot_be_loaded(learned, tmp_path):
    with pytest.raises(InputError, match="neither tokenizer.json nor spiece.model"):
        load_sentencepiece({}, {})
    path = tmp_path / "spiece.model"
    write(path, "xlm-roberta", "unigram", learned)
    with pytest.raises(InputError, match="tokenizer_class"):
        load_sentencepiece(files_in(tmp_path), {})
    with pytest.raises(InputError, match="T5Tokenizer"):
        load_sentencepiece(files_in(tmp_path), {"tokenizer_class": "T5Tokenizer"})
    with pytest.raises(InputError, match=r"\[CLS\]"):
        load_sentencepiece(files_in(tmp_path), {"tokenizer_class": "AlbertTokenizer"})
    path.write_bytes(model_bytes([("a", 0.0, 1)], "char", 0, b""))
    with pytest.raises(InputError, match="words or characters"):
        load_sentencepiece(files_in(tmp_path), {})
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="isn't what tokenizers writes"):
        load_sentencepiece(files_in(tmp_path), {})
