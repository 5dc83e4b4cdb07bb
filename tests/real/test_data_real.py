"""Store and plans over real text."""

import re

import numpy as np
import pytest

from tfllm import text
from tfllm.data.array_building import build_array_store
from tfllm.data.bucket_plan import BucketPlan
from tfllm.data.encoders import TextEncoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.packed_plan import PackedPlan
from tfllm.data.store import build_store


@pytest.fixture(scope="module")
def lines(data) -> list[str]:
    path = data / "lm" / "wikitext-2" / "wiki.valid.tokens"
    return path.read_text(encoding="utf-8").split("\n")


@pytest.fixture(scope="module")
def gpt2(data):
    return text.load(data / "vocab" / "gpt2")


@pytest.mark.parametrize("processes", [0, 2])
def test_a_store_holds_hugging_faces_ids(lines, gpt2, tmp_path, processes):
    store = build_store(lines, gpt2, cache_dir=tmp_path, processes=processes)
    store.arrays.verify()
    encodings = gpt2.fast.encode_batch(lines, add_special_tokens=False)
    wanted = [token for found in encodings for token in (gpt2.bos_id, *found.ids)]
    np.testing.assert_array_equal(store.tokens, wanted)


def test_packed_wikitext_is_full(lines, gpt2, tmp_path):
    documents = re.split(r"\n(?= = [^=].*[^=] = \n)", "\n".join(lines))
    assert len(documents) > 50
    for part in (documents, [line for line in lines if line.strip()]):
        store = build_store(part, gpt2, cache_dir=tmp_path)
        for length in (256, 1024):
            assert PackedPlan(store.offsets, length, 8, 0).real_share >= 0.98


def test_sst2_is_hardly_padded(data, tmp_path):
    from transformers import BertTokenizerFast

    bert = BertTokenizerFast(str(data / "vocab" / "bert-base-uncased" / "vocab.txt"))
    tokenizer = FastTokenizer(bert.backend_tokenizer.to_str(), "bert", len(bert), None, None, True)
    rows = (data / "classification" / "sst2" / "train.tsv").read_text().splitlines()[1:16_001]
    examples = [dict(zip(("text", "label"), row.split("\t"), strict=True)) for row in rows]
    encoder = TextEncoder(tokenizer, 32, label="label", labels=("0", "1"))
    store = build_array_store(examples, encoder, cache_dir=tmp_path)
    texts = [example["text"] for example in examples]
    wanted = bert(texts, truncation=True, max_length=32)["input_ids"]
    np.testing.assert_array_equal(store.values("input_ids"), np.concatenate(wanted))
    assert store.values("label").tolist() == [int(example["label"]) for example in examples]
    full = sum(map(len, bert(texts)["input_ids"]))
    assert store.manifest.counts["tokens_cut"] == full - sum(map(len, wanted)) > 0
    lengths = np.array([len(ids) for ids in wanted])
    np.testing.assert_array_equal(store.lengths("input_ids"), lengths)
    plan = BucketPlan(lengths, 32, 0)
    padded = sum(s.size * s.width for s in map(plan.rows, range(plan.steps_per_epoch)))
    assert lengths.sum() / padded >= 0.95
