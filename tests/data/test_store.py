import json

import numpy as np
import pytest

from tfllm.data.store import TokenStore, build_store, check_length
from tfllm.errors import InputError
from tfllm.text import train_byte_level_bpe

DOCUMENTS = ["the cat", "", "sat on the dog"]


def build(tokenizer, folder, documents=DOCUMENTS, **kwargs):
    return build_store(documents, tokenizer, cache_dir=folder, **kwargs)


def test_documents_stand_between_start_tokens(tokenizer, tmp_path):
    store = build(tokenizer, tmp_path)
    wanted = []
    for document in DOCUMENTS:
        wanted += [tokenizer.bos_id, *tokenizer.fast.encode(document).ids]
    assert store.tokens.tolist() == [*wanted, tokenizer.bos_id]
    assert store.tokens.dtype == np.uint16
    manifest = store.manifest
    assert (manifest.documents, manifest.text_bytes) == (3, 21)
    assert manifest.tokens == len(wanted) + 1


def test_the_same_text_is_tokenized_once(tokenizer, tmp_path):
    class Counted(list):
        reads = 0

        def __iter__(self):
            Counted.reads += 1
            return super().__iter__()

    documents = Counted(DOCUMENTS)
    folder = build(tokenizer, tmp_path, documents).folder
    assert Counted.reads == 2  # once for the digest, once for the tokens
    before = (folder / "tokens.bin").stat().st_mtime_ns
    assert build(tokenizer, tmp_path, documents).folder == folder
    assert Counted.reads == 3
    assert (folder / "tokens.bin").stat().st_mtime_ns == before


def test_other_text_or_another_tokenizer_makes_another_store(tokenizer, tmp_path):
    first = build(tokenizer, tmp_path).folder
    assert build(tokenizer, tmp_path, ["the cat", "sat on the dog"]).folder != first
    # The same characters, parted elsewhere.
    assert build(tokenizer, tmp_path, ["the", " cat", "", "sat on the dog"]).folder != first
    other = train_byte_level_bpe(["other words here"] * 4, 270)
    assert build(other, tmp_path).folder != first
    assert len(list(tmp_path.iterdir())) == 4


def test_a_store_cut_off_anywhere_is_rebuilt(tokenizer, tmp_path):
    folder = build(tokenizer, tmp_path).folder
    whole = (folder / "tokens.bin").read_bytes()
    for size in range(len(whole)):
        (folder / "tokens.bin").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cut off"):
            TokenStore(folder)
    assert build(tokenizer, tmp_path).tokens.tobytes() == whole
    manifest = (folder / "manifest.json").read_bytes()
    for size in range(0, len(manifest) - 2, 7):
        (folder / "manifest.json").write_bytes(manifest[:size])
        with pytest.raises(ValueError, match="no whole store"):
            TokenStore(folder)
    (folder / "manifest.json").unlink()
    assert build(tokenizer, tmp_path).tokens.tobytes() == whole


def test_the_manifest_says_what_is_there(tokenizer, tmp_path):
    import hashlib

    folder = build(tokenizer, tmp_path).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / "tokens.bin").read_bytes()).hexdigest()
    assert manifest["sha256"] == digest
    assert manifest["tokenizer"] == tokenizer.fingerprint


def test_length_is_checked_exactly(tokenizer, tmp_path):
    tokens = build(tokenizer, tmp_path).manifest.tokens
    check_length(DOCUMENTS, tokenizer, tokens, "--train")
    with pytest.raises(InputError, match=f"--train is shorter than one block: {tokens} tokens"):
        check_length(DOCUMENTS, tokenizer, tokens + 1, "--train")
    check_length(["the cat " * 1000], tokenizer, 500, "--train")


def test_an_unwritable_folder(tokenizer, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="TFLLM_CACHE_DIR"):
        build(tokenizer, tmp_path / "file")
