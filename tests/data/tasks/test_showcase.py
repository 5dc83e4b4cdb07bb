import subprocess
import sys
from collections import Counter

import pytest

from tfllm.data.showcase import Showcase
from tfllm.data.showcase.grammar import fillings
from tfllm.data.tasks import (
    check_labels,
    label_counts,
    read_examples,
    read_questions,
    read_tagged_words,
    tag_names,
    text_fields,
)
from tfllm.errors import InputError


def test_fillings_are_different_and_fixed():
    slots = {"a": ["1", "2", "3"], "b": ["x", "y"]}
    found = [tuple(filling.values()) for filling in fillings(slots, 99, 0)]
    assert len(found) == len(set(found)) == 6
    assert (
        found != sorted(found) and list(fillings(slots, 2, 0)) == list(fillings(slots, 99, 0))[:2]
    )


def test_opinions_are_balanced_and_some_are_held_out():
    parts = read_examples(fields=text_fields())
    assert parts.name == "sentiment" and parts.test is None
    rows = [*parts.train, *parts.validation]
    assert len({row["text"] for row in rows}) == len(rows) >= 200
    assert set(Counter(row["label"] for row in rows).values()) == {len(rows) / 2}
    assert min(label_counts(parts.validation).values()) > 5
    check_labels(parts.validation, tuple(label_counts(parts.train)))
    assert not [row for row in rows if " a a" in row["text"] or "{" in row["text"]]


def test_entities_are_tagged_whole():
    parts = read_tagged_words()
    assert tag_names(parts.train) == (
        "O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER",
    )  # fmt: skip
    spans = Counter()
    for example in [*parts.train, *parts.validation]:
        assert len(example["tokens"]) == len(example["tags"])
        before = "O"
        for token, tag in zip(example["tokens"], example["tags"], strict=True):
            assert "{" not in token and (not tag.startswith("I-") or before[1:] == tag[1:])
            spans[tag] += 1
            before = tag
    assert min(spans.values()) > 50
    capitals = [
        t for e in parts.train for t, tag in zip(e["tokens"], e["tags"], strict=True) if tag != "O"
    ]
    assert all(token[0].isupper() for token in capitals)


def test_answers_stand_where_they_are_said_to():
    parts = read_questions()
    rows = [*parts.train, *parts.validation]
    assert len({row["id"] for row in rows}) == len(rows) >= 300
    for row in rows:
        (answer,), (start,) = row["answers"], row["answer_starts"]
        end = start + len(answer)
        assert row["context"][start:end] == answer
        assert row["context"][start - 1] == " " and row["context"][end] == " "
        assert row["context"].count(f" {answer} ") == 1


def test_queries_say_in_other_words_what_all_their_portraits_tell():
    pairs = list(Showcase("search"))
    assert len({(pair["query"], pair["document"]) for pair in pairs}) == len(pairs)
    bakers = [pair for pair in pairs if pair["query"] == "Who in Lisbon makes bread ?"]
    texts = {pair["document"] for pair in pairs}
    wanted = {text for text in texts if " Lisbon " in f" {text} " and " baker " in text}
    assert {pair["document"] for pair in bakers} == wanted and wanted
    assert not [pair for pair in pairs if "{" in pair["query"]]


def test_other_processes_have_the_same_examples():
    names = ("sentiment", "entities", "answers", "rewriting", "search")
    code = (
        "from tfllm.data.showcase import Showcase\n"
        f"print([Showcase(name).digest() for name in {names}])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str([Showcase(name).digest() for name in names])


def test_places_and_names():
    assert Showcase("answers").place(4) == "showcase-answers:5"
    with pytest.raises(
        InputError, match="one of sentiment, entities, answers, rewriting, search. Received: 'news'"
    ):
        Showcase("news")
