"""Metrics on whole published data sets, held against what must come out there."""

import json
import re
import string
from collections import Counter

from tfllm import metrics
from tfllm.data.readers import Conll


def test_conll_against_itself_and_shifted(data):
    examples = Conll(data / "ner" / "conll2003" / "eng.testb", scheme="iob1")
    gold = [example["tags"] for example in examples]
    found = metrics.entities(gold, gold)
    assert found.pop("illegal_sequences") == 0.0
    assert found == dict.fromkeys(found, 1.0)
    assert {name for name in found if "/" in name} == {
        f"f1/{t}" for t in "LOC MISC ORG PER".split()
    }
    # Without its last word an entity of several is wrong; no other changes.
    cut = [
        [
            "O" if tag.startswith("I-") and not after.startswith("I-") else tag
            for tag, after in zip(tags, [*tags[1:], "O"], strict=True)
        ]
        for tags in gold
    ]
    total = sum(tag.startswith("B-") for tags in gold for tag in tags)
    singles = sum(
        tag.startswith("B-") and not after.startswith("I-")
        for tags in gold
        for tag, after in zip(tags, [*tags[1:], "O"], strict=True)
    )
    assert total == 5_648  # table 2 of the CoNLL-2003 paper
    found = metrics.entities(gold, cut)
    assert found["precision"] == found["recall"] == singles / total


def test_squad_dev(data):
    articles = json.loads((data / "qa" / "squad" / "dev-v1.1.json").read_text())["data"]
    questions = [q for a in articles for p in a["paragraphs"] for q in p["qas"]]
    references = {q["id"]: [answer["text"] for answer in q["answers"]] for q in questions}
    assert len(references) == 10_570
    for place in (0, -1):
        chosen = {key: golds[place] for key, golds in references.items()}
        found = metrics.answers(chosen, references)
        assert found["exact_match"] == 100.0
        # By the official formula an answer of articles alone has no word in common with itself.
        empty = sum(not words(text) for text in chosen.values())
        assert empty <= 1 and abs(found["f1"] - 100 * (1 - empty / 10_570)) < 1e-9

    # The first answer against the other ones: how well people agree.
    first = {key: golds[0] for key, golds in references.items() if len(golds) > 1}
    others = {key: references[key][1:] for key in first}
    found = metrics.answers(first, others)
    exact, f1 = zip(*(scores(first[key], others[key]) for key in first), strict=True)
    assert abs(found["exact_match"] - 100 * sum(exact) / len(exact)) < 1e-9
    assert abs(found["f1"] - 100 * sum(f1) / len(f1)) < 1e-9


def scores(prediction: str, golds: list[str]) -> tuple[bool, float]:
    """Exact match and F1 by precision and recall, written apart from the metric."""
    exact, best = False, 0.0
    mine = words(prediction)
    for gold in map(words, golds):
        exact |= mine == gold
        common = sum(min(n, Counter(gold)[word]) for word, n in Counter(mine).items())
        if common:
            precision, recall = common / len(mine), common / len(gold)
            best = max(best, 2 * precision * recall / (precision + recall))
    return exact, best


def words(text: str) -> list[str]:
    letters = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return [word for word in re.sub(r"\b(a|an|the)\b", " ", letters).split()]
