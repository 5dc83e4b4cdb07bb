"""Masks on text as people have it."""

import csv
from importlib.util import find_spec

import numpy as np
import pytest

from tfllm import text
from tfllm.data import Masking, masked_batches, read_corpus, unigram_accuracy


@pytest.fixture(autouse=True)
def stores(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TFLLM_CACHE_DIR", str(tmp_path))


def epoch_of(batches, tokenizer):
    """Share of the real tokens that are masked in one epoch, and how often a word is split."""
    inside = np.zeros(tokenizer.vocabulary_size, bool)
    for token, number in tokenizer.fast.get_vocab().items():
        inside[number] = token.startswith("##")
    special = np.array(batches.masking.special_ids)
    masked = real = split = 0
    for step in range(batches.steps_per_epoch):
        features, targets, weights = batches.batch(step)
        row, slot = np.nonzero(weights["masked_lm"])
        places = features["masked_positions"][row, slot]
        ids = features["input_ids"].copy()
        ids[row, places] = targets["masked_lm"][row, slot]
        masked += len(row)
        real += int((~np.isin(ids, special) & (features["attention_mask"] == 1)).sum())
        hidden = np.zeros(ids.shape, bool)
        hidden[row, places] = True
        split += int((inside[ids][:, 1:] & (hidden[:, 1:] != hidden[:, :-1])).sum())
    return masked / real, split


@pytest.fixture(scope="module")
def bert(data):
    return text.load(data / "vocab" / "bert-base-uncased")


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("documents", ["line", "file"])
def test_wikitext_in_rows(data, bert, unit, documents):
    files = [str(data / "lm" / "wikitext-2" / f"wiki.{part}.tokens") for part in ("train", "valid")]
    corpus = read_corpus(files[:1], files[1:], unit=documents)
    masking = Masking.of(bert, unit=unit)
    train = masked_batches(
        corpus.train, bert, masking=masking, sequence_length=128, global_batch_size=32, seed=1
    )
    rate, split = epoch_of(train, bert)
    print(train, f"rate {rate:.4f}")
    assert rate == pytest.approx(0.15, abs=0.0015) and split == 0
    assert train.plan.real_share > 0.98
    fixed = masked_batches(
        corpus.validation, bert, masking=masking, sequence_length=128, global_batch_size=32
    )
    accuracy = unigram_accuracy(train, fixed)
    print(f"unigram accuracy {accuracy:.4f}")
    assert 0.02 < accuracy < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["next_sentence", "sentence_order"])
def test_wikitext_in_pairs(data, bert, objective):
    """Its articles, one paragraph a line."""
    lines = (data / "lm" / "wikitext-2" / "wiki.valid.tokens").read_text().split("\n")
    articles: list[list[str]] = [[]]
    for line in lines:
        if line.startswith(" = ") and not line.startswith(" = ="):
            articles.append([])
        articles[-1].append(line)
    batches = masked_batches(
        ["\n".join(article) for article in articles],
        bert,
        masking=Masking.of(bert, unit="word"),
        objectives=("masked_lm", objective),
        sequence_length=128,
        global_batch_size=16,
        seed=1,
    )
    rate, split = epoch_of(batches, bert)
    print(batches, f"rate {rate:.4f}")
    # Half a batch at an epoch's end repeats a row without a weight.
    assert rate == pytest.approx(0.15, abs=0.003) and split == 0
    steps = [batches.batch(step) for step in range(batches.steps_per_epoch)]
    labels = np.concatenate([targets[objective] for _, targets, _ in steps])
    counted = np.concatenate([weights[objective] for _, _, weights in steps]) > 0
    assert labels[counted].mean() == pytest.approx(0.5, abs=0.05)
    assert counted.sum() == batches.plan.num_pairs


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jieba") is None, reason="jieba is not installed")
def test_chinese_words_of_hotel_reviews(data):
    tokenizer = text.load(data / "vocab" / "bert-base-chinese")
    file = data / "classification" / "chnsenticorp_hotel" / "all.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        reviews = [row["review"] for row in csv.DictReader(lines)][:1500]
    batches = masked_batches(
        reviews,
        tokenizer,
        masking=Masking.of(tokenizer, unit="word"),
        words="chinese",
        sequence_length=128,
        global_batch_size=32,
        seed=1,
    )
    masking, store = batches.masking, batches.store
    shown, masked, real = [], 0, 0
    for row in range(len(store)):
        ids = store.row("input_ids", row).astype(np.int64)
        starts = np.array(store.row("word_starts", row))
        lengths, rows = np.array([len(ids)]), np.array([row])
        places, read = masking.draw(ids, starts, lengths, rows, seed=1, epoch=0)
        hidden = np.isin(np.arange(len(ids)), places)
        special = masking.is_special(ids)
        masked, real = masked + len(places), real + int((~special).sum())
        for word in np.split(np.arange(len(ids)), np.flatnonzero(starts)[1:]):
            inside = word[~special[word]]
            assert hidden[inside].all() or not hidden[inside].any()
            if len(inside) > 1 and hidden[inside].any():
                shown.append("".join(tokenizer.fast.id_to_token(int(t)) for t in ids[inside]))
    print(batches, f"rate {masked / real:.4f}", " ".join(shown[:40]))
    assert masked / real == pytest.approx(0.15, abs=0.003)
    assert batches.plan.real_share > 0.98
    assert {"酒店", "房间", "服务", "不错", "早餐"} <= set(shown)
