import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm import metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  U.S. Army's", "us armys"),
        ("A theatre, an anthem", "theatre anthem"),
        ("the", ""),
        ("\tone\u00a0two\n", "one two"),
        ("theory of a mind", "theory of mind"),
        ("a-an the.", "aan"),  # punctuation goes first, so that here no article is left of "a-an"
        ("“quoted”", "“quoted”"),  # only ASCII's punctuation
    ],
)
def test_normalisation(text, expected):
    assert metrics.normalised_answer(text) == expected


def test_by_hand():
    references = {"1": ["Norman", "Normans"], "2": ["10 July 1998"], "3": ["the end"]}
    predictions = {"1": "the Norman king", "2": "July 10, 1998", "3": "An end!"}
    found = metrics.answers(predictions, references)
    assert found == pytest.approx({"exact_match": 100 / 3, "f1": 100 * (2 / 3 + 1 + 1) / 3})


def test_words_count_as_often_as_they_occur():
    found = metrics.answers({"1": "no no no"}, {"1": ["no no yes"]})
    assert found == pytest.approx({"exact_match": 0.0, "f1": 100 * 2 / 3})


def test_questions_without_an_answer():
    references = {"1": [], "2": ["Rome"], "3": [], "4": ["Paris", "the"], "5": ["the"]}
    predictions = {"1": "", "2": "", "3": "Rome", "4": "Paris", "5": "a"}
    found = metrics.answers(predictions, references)
    # Right are 1, 4, and 5, whose only reference normalises to nothing, as its prediction does.
    assert found == pytest.approx(
        {
            "exact_match": 60.0,
            "f1": 60.0,
            "exact_match/answerable": 50.0,
            "f1/answerable": 50.0,
            "exact_match/unanswerable": 200 / 3,
        }
    )


def test_a_reference_of_an_article_alone():
    # Where all questions have references, as in version 1.1, it matches, but has no word.
    assert metrics.answers({"1": "a"}, {"1": ["the"]}) == {"exact_match": 100.0, "f1": 0.0}


def test_a_missing_prediction_is_wrong_even_where_nothing_was_right():
    assert metrics.answers({}, {"1": ["Rome"], "2": []})["exact_match"] == 0.0
    assert metrics.answers({}, {}) == {"exact_match": 0.0, "f1": 0.0}


def test_threshold_by_hand():
    references = {"1": ["Rome"], "2": ["Paris"], "3": []}
    predictions = {"1": "Rome", "2": "Paris", "3": "London"}
    scores = {"1": -3.0, "2": 2.0, "3": 5.0}
    assert metrics.best_no_answer_threshold(predictions, references, scores) == 3.5
    # All have an answer: it is always given.
    references["3"] = ["London"]
    assert metrics.best_no_answer_threshold(predictions, references, scores) == 6.0
    # None has: it never is.
    nothing = dict.fromkeys(references, ())
    assert metrics.best_no_answer_threshold(predictions, nothing, scores) == -4.0
    assert metrics.best_no_answer_threshold({}, {}, {}) == 0.0


@given(st.lists(st.tuples(st.sampled_from(["a b", "b c", None]), st.integers(-3, 3)), max_size=8))
def test_no_threshold_is_better(questions):
    references = {str(i): [gold] if gold else [] for i, (gold, _) in enumerate(questions)}
    scores = {str(i): float(score) for i, (_, score) in enumerate(questions)}
    predictions = dict.fromkeys(references, "b")

    def f1(threshold: float) -> float:
        given = {q: "" if scores[q] > threshold else text for q, text in predictions.items()}
        return metrics.answers(given, references)["f1"]

    found = metrics.best_no_answer_threshold(predictions, references, scores)
    assert f1(found) == pytest.approx(max(map(f1, np.arange(-4, 5) + 0.5)))


def test_silence_where_no_answer_is_surer():
    answers, margins = {"a": "x", "b": "y"}, {"a": -1.0, "b": 2.0}
    both = {"a": ["x"], "b": ["y"]}
    one = {"a": ["x"], "b": []}
    assert metrics.answers_or_none(answers, both, margins, None) == answers
    assert metrics.answers_or_none(answers, one, margins, None) == {"a": "x", "b": ""}
    assert metrics.answers_or_none(answers, both, margins, -2.0) == {"a": "", "b": ""}
