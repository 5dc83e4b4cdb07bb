"""Tokens of real texts: what a sample says, beside what they are."""

import csv
import json

import pytest

from tfllm import text
from tfllm.data.text_files import read_documents
from tfllm.models import CausalLM
from tfllm.planning import ModelSizes, count_parameters, count_tokens, cut_texts, draw_sample


@pytest.fixture(scope="module")
def lengths_of(data):
    fast = text.load(data / "vocab" / "gpt2").fast
    return lambda texts: [len(found.ids) for found in fast.encode_batch(list(texts))]


def test_a_sample_of_sst2_says_how_many_tokens_there_are(data, lengths_of):
    path = data / "classification" / "sst2" / "train.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        texts = [r["sentence"] for r in csv.DictReader(file, delimiter="\t", quoting=3)][:20_000]
    truth = sum(lengths_of(texts))
    count = count_tokens(draw_sample(texts, 1000), lengths_of, row_tokens=64)
    assert abs(count.tokens - truth) < 3 * count.standard_error < 0.05 * truth


def test_pieces_of_wikitext_have_the_tokens_of_the_whole(data, lengths_of):
    folder = data / "lm" / "wikitext-2"
    path = min(folder.iterdir(), key=lambda path: path.stat().st_size)
    (whole,) = read_documents([path], "file")
    pieces = list(cut_texts([whole]))
    assert len(pieces) > 100
    assert sum(lengths_of(pieces)) == lengths_of([whole])[0]


def test_the_adder_has_its_parameters(data):
    folder = data / "weights" / "gpt2-nano-adder"
    sizes = ModelSizes.from_config(json.loads((folder / "config.json").read_text()), "adder")
    model = CausalLM.from_pretrained(folder)
    assert count_parameters(sizes, "causal_lm").total == model.count_params()
