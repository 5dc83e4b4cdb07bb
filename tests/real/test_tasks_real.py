"""Tasks over real data: rows equal Hugging Face's, little padding, clear refusals."""

import itertools

import numpy as np
import pytest
from transformers import BertTokenizerFast, RobertaTokenizerFast

from tfllm.data import (
    BucketPlan,
    FastTokenizer,
    QuestionEncoder,
    RowBatches,
    TagEncoder,
    TextEncoder,
    build_array_store,
    check_labels,
    example_numbers,
    label_counts,
    label_names,
    read_examples,
    read_questions,
    read_tagged_words,
    tag_names,
    text_fields,
)
from tfllm.errors import InputError


def fast_of(theirs) -> FastTokenizer:
    theirs.backend_tokenizer.no_truncation()
    return FastTokenizer(theirs.backend_tokenizer.to_str(), "x", len(theirs), None, None, True)


@pytest.fixture(scope="module")
def english(data) -> BertTokenizerFast:
    return BertTokenizerFast(str(data / "vocab" / "bert-base-uncased" / "vocab.txt"))


@pytest.fixture(scope="module")
def chinese(data) -> BertTokenizerFast:
    return BertTokenizerFast(str(data / "vocab" / "bert-base-chinese" / "vocab.txt"))


@pytest.fixture(scope="module")
def roberta(data) -> RobertaTokenizerFast:
    return RobertaTokenizerFast.from_pretrained(data / "vocab" / "roberta-base")


def test_sst2_in_one_call(data, english, tmp_path):
    folder = data / "classification" / "sst2"
    train, validation = str(folder / "train.tsv"), str(folder / "dev.tsv")
    parts = read_examples([train], [validation], fields=text_fields(text="sentence"))
    counts = label_counts(parts.train)
    assert counts == {"0": 29_780, "1": 37_569}
    check_labels(parts.validation, tuple(counts))
    encoder = TextEncoder(fast_of(english), 128, label="label", labels=tuple(counts))
    store = build_array_store(parts.train, encoder, cache_dir=tmp_path)
    assert len(store) == 67_349 and store.manifest.counts["rows_truncated"] == 0
    rows = RowBatches(store, BucketPlan(store.lengths("input_ids"), 32, 0), targets="label")
    positions = real = 0
    for step in range(rows.steps_per_epoch):
        features, _, weights = rows.batch(step)
        mask = features["attention_mask"] * weights[:, None]
        positions += mask.size
        real += int(mask.sum())
    assert real == len(store.values("input_ids"))
    assert 1 - real / positions <= 0.05
    with pytest.raises(InputError, match=r"--test .*test.tsv has no column 'label'.*needs labels"):
        test = str(folder / "test.tsv")
        read_examples([train], test=[test], fields=text_fields(text="sentence"))


def test_other_tables(data):
    hotel = data / "classification" / "chnsenticorp_hotel" / "all.csv"
    reviews = text_fields(text="review")
    with pytest.raises(InputError, match=r"all.csv:6376 field 'review' is blank"):
        read_examples([str(hotel)], fields=reviews)
    parts = read_examples([str(hotel)], fields=reviews, validation_fraction=0.1, on_error="skip")
    assert len(list(parts.train)) + len(list(parts.validation)) == 7_765
    assert parts.train.skipped.count == 1
    assert label_names(parts.train) == ("0", "1")
    news = str(data / "classification" / "ag_news" / "test.tsv")
    parts = read_examples([news], [news], fields=text_fields(), columns=["text", "label"])
    assert sum(label_counts(parts.train).values()) == 7_600
    folder = data / "pairs" / "sts-b"
    scored = text_fields(text="sentence1", text_pair="sentence2", label="score", kind="regression")
    parts = read_examples([str(folder / "train.tsv")], [str(folder / "dev.tsv")], fields=scored)
    scores = [example["label"] for example in parts.validation]
    assert len(scores) == 1_500 and 0 <= min(scores) < max(scores) <= 5


CONLL = {"scheme": "iob1"}
WEIBO = {"delimiter": "\t", "positions_in_tokens": True}


def first_pieces(words: list) -> list[int]:
    before = [None, *words[:-1]]
    return [
        int(word is not None and word != last) for word, last in zip(words, before, strict=True)
    ]


@pytest.mark.parametrize("kind", ["english", "roberta"])
def test_conll_rows_are_hugging_faces(data, kind, request, tmp_path):
    theirs = request.getfixturevalue(kind)
    folder = data / "ner" / "conll2003"
    parts = read_tagged_words([str(folder / "eng.testa")], [str(folder / "eng.testb")], **CONLL)
    labels = tag_names(parts.train)
    assert len(labels) == 9 and labels[0] == "O"
    check_labels(parts.validation, labels, field="tags")
    encoder = TagEncoder(fast_of(theirs), 512, labels=labels)
    store = build_array_store(parts.train, encoder, cache_dir=tmp_path)
    if kind == "roberta":
        theirs = RobertaTokenizerFast.from_pretrained(
            data / "vocab" / "roberta-base", add_prefix_space=True
        )
    examples = list(parts.train)
    wanted = theirs([example["tokens"] for example in examples], is_split_into_words=True)
    np.testing.assert_array_equal(store.values("input_ids"), np.concatenate(wanted["input_ids"]))
    starts = np.concatenate([first_pieces(wanted.word_ids(i)) for i in range(len(examples))])
    np.testing.assert_array_equal(store.values("word_starts"), starts)
    tags = [labels.index(tag) for example in examples for tag in example["tags"]]
    assert store.values("tags")[starts == 1].tolist() == tags
    assert store.manifest.counts["words"] == 51_362 == len(tags)
    assert store.manifest.counts["words_vanished"] == 0


def test_short_windows_score_every_word_of_conll_once(data, english, tmp_path):
    path = str(data / "ner" / "conll2003" / "eng.testb")
    parts = read_tagged_words([path], [path], **CONLL)
    labels = tag_names(parts.train)
    encoder = TagEncoder(fast_of(english), 32, labels=labels, overlap=16)
    store = build_array_store(parts.train, encoder, cache_dir=tmp_path)
    assert len(store) > 3_453 and store.lengths("input_ids").max() <= 32
    numbers = example_numbers(store)
    words = np.add.reduceat(
        store.values("word_starts"), store.offsets("word_starts")[:-1], dtype=int
    )
    sizes = [len(example["tokens"]) for example in parts.train]
    assert np.bincount(numbers, words).tolist() == sizes
    tags = [labels.index(tag) for example in parts.train for tag in example["tags"]]
    assert store.values("tags")[store.values("word_starts") == 1].tolist() == tags


def test_every_character_of_weibo_has_a_piece(data, chinese, tmp_path):
    """60 of 73,778 vanish under the tokenizer: zero-width ones, and broken emoji."""
    path = str(data / "ner" / "weibo_zh" / "weiboNER_2nd_conll.train")
    parts = read_tagged_words([path], [path], **WEIBO)
    encoder = TagEncoder(fast_of(chinese), 512, labels=tag_names(parts.train))
    store = build_array_store(parts.train, encoder, cache_dir=tmp_path)
    counts = store.manifest.counts
    assert (counts["words"], counts["words_unknown"], counts["words_vanished"]) == (73_778, 350, 60)
    assert store.values("word_starts").sum() == 73_778 and len(store) == 1_350


@pytest.mark.parametrize("kind", ["english", "roberta"])
def test_squad_windows_are_hugging_faces(data, kind, request, tmp_path):
    theirs = request.getfixturevalue(kind)
    path = str(data / "qa" / "squad" / "dev-v1.1.json")
    examples = list(itertools.islice(read_questions([path], [path]).train, 3_000))
    encoder = QuestionEncoder(fast_of(theirs), 384, overlap=128)
    store = build_array_store(examples, encoder, cache_dir=tmp_path)
    wanted = theirs(
        [example["question"] for example in examples],
        [example["context"] for example in examples],
        truncation="only_second",
        max_length=384,
        stride=128,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    np.testing.assert_array_equal(store.values("input_ids"), np.concatenate(wanted["input_ids"]))
    np.testing.assert_array_equal(example_numbers(store), wanted["overflow_to_sample_mapping"])
    spans = [
        _span_of_the_recipe(wanted, row, examples[number])
        for row, number in enumerate(wanted["overflow_to_sample_mapping"])
    ]
    ours = store.values("spans").tolist()
    if kind == "english":
        assert ours == spans
    # A character of several byte-level tokens is whole in ours, and cut in the recipe's.
    for row, (span, other) in enumerate(zip(ours, spans, strict=True)):
        places = wanted["offset_mapping"][row]
        assert [places[t] for t in span] == [places[t] for t in other] and span[0] <= other[0]
    assert store.manifest.counts["answers_lost"] == 0
    assert store.manifest.counts["questions_cut"] == 0


def _span_of_the_recipe(wanted, row: int, example: dict) -> list[int]:
    """Tokens of the first answer, as the `run_qa` example of transformers looks for them."""
    places, texts = wanted["offset_mapping"][row], wanted.sequence_ids(row)
    inside = [token for token, text in enumerate(texts) if text == 1]
    start = example["answer_starts"][0]
    end = start + len(example["answers"][0])
    if places[inside[0]][0] > start or places[inside[-1]][1] < end:
        return [0, 0]
    first = max(token for token in inside if places[token][0] <= start)
    last = min(token for token in inside if places[token][1] >= end)
    return [first, last]
