import numpy as np
import pytest

from tfllm.data.store import TokenStore, build_store, check_length
from tfllm.data.stores import list_stores
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
    assert store.tokens.tolist() == wanted
    assert store.tokens.dtype == np.uint16
    assert store.offsets.tolist() == [0, *np.flatnonzero(store.tokens == 0)[1:], len(wanted)]
    manifest = TokenStore(store.folder).manifest
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
    before = (folder / "input_ids.values.bin").stat().st_mtime_ns
    assert build(tokenizer, tmp_path, documents).folder == folder
    assert Counted.reads == 3
    assert (folder / "input_ids.values.bin").stat().st_mtime_ns == before


def test_other_text_or_another_tokenizer_makes_another_store(tokenizer, tmp_path):
    first = build(tokenizer, tmp_path).folder
    assert build(tokenizer, tmp_path, ["the cat", "sat on the dog"]).folder != first
    # The same characters, parted elsewhere.
    assert build(tokenizer, tmp_path, ["the", " cat", "", "sat on the dog"]).folder != first
    other = train_byte_level_bpe(["other words here"] * 4, 270)
    assert build(other, tmp_path).folder != first
    assert len(list_stores(tmp_path)) == len(list(tmp_path.iterdir())) == 4


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
