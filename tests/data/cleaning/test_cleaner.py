import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.cleaning import Cleaner, ExactDuplicates, Length, Removal, Step


@dataclass(frozen=True)
class CutAtBar(Step):
    name = "cut"

    def begin(self) -> Callable[[str], str | Removal]:
        return lambda document: document.split("|")[0]


def test_each_step_counts_what_it_sees_changes_and_removes():
    cleaner = Cleaner([Length(least_characters=3), CutAtBar(), ExactDuplicates()])
    documents = ["one|x", "no", "two", "one", "| gone", "three"]
    assert list(cleaner.clean(documents)) == ["one", "two", "three"]
    assert cleaner.report() == {
        "length": {
            "seen": 6,
            "changed": 0,
            "removed": 1,
            "examples": [{"removed": "no", "reason": "2 characters, fewer than 3"}],
        },
        "cut": {
            "seen": 5,
            "changed": 1,
            "removed": 1,
            "examples": [
                {"before": "one|x", "after": "one"},
                {"removed": "| gone", "reason": "nothing is left of it"},
            ],
        },
        "exact_duplicates": {
            "seen": 4,
            "changed": 0,
            "removed": 1,
            "examples": [{"removed": "one", "reason": "stood before"}],
        },
    }
    json.dumps(cleaner.report())


def test_passes_are_independent_of_each_other():
    cleaner = Cleaner([ExactDuplicates()])
    documents = ["a", "b", "a"]
    first, second = cleaner.clean(documents), cleaner.clean(documents)
    assert [next(first), next(second), next(first)] == ["a", "a", "b"]
    assert list(first) == [] and list(second) == ["b"]
    assert cleaner.report()["exact_duplicates"]["seen"] == 3


def test_documents_stream():
    taken = []

    def documents():
        for i in range(10):
            taken.append(i)
            yield f"document {i}"

    cleaned = Cleaner([Length(), ExactDuplicates()]).clean(documents())
    assert next(cleaned) == "document 0" and taken == [0]
    assert next(cleaned) == "document 1" and taken == [0, 1]


def test_examples_are_few_and_short_and_show_the_change():
    cleaner = Cleaner([CutAtBar()])
    text = "x" * 1000
    list(cleaner.clean([f"{text}{i}|tail" for i in range(9)]))
    count = cleaner.report()["cut"]
    assert count["changed"] == 9 and len(count["examples"]) == 3
    assert count["examples"][0] == {"before": "x" * 39 + "0|tail", "after": "x" * 39 + "0"}


def test_steps_of_one_name_are_told_apart():
    cleaner = Cleaner([Length(least_characters=2), CutAtBar(), Length(most_characters=4)])
    assert list(cleaner.clean(["a", "abcdef|", "abc|d"])) == ["abc"]
    assert {name: c["removed"] for name, c in cleaner.report().items()} == {
        "length": 1,
        "cut": 0,
        "length-2": 1,
    }


@pytest.mark.parametrize("documents", [[], ["  ", "\n"]])
def test_nothing_in_nothing_out(documents):
    assert list(Cleaner([ExactDuplicates()]).clean(documents)) == []


@given(st.lists(st.text("ab \n", max_size=3)))
def test_order_is_kept_and_the_counts_add_up(documents):
    cleaner = Cleaner([Length(least_characters=2), ExactDuplicates()])
    kept = list(cleaner.clean(documents))
    rest = iter(documents)
    assert all(document in rest for document in kept)
    length, duplicates = cleaner.report().values()
    assert length["seen"] == len(documents)
    assert duplicates["seen"] == length["seen"] - length["removed"]
    assert len(kept) == duplicates["seen"] - duplicates["removed"]
