"""Answers to questions about a text, measured as SQuAD is."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["answers", "answers_or_none", "best_no_answer_threshold", "normalised_answer"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answers(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Score answers in percent, as SQuAD's official scripts do.

    Both sides are normalised first, see `normalised_answer`. A question's exact match is 1 if
    the prediction equals one of its references; its F1 is the harmonic mean of precision and
    recall of the words in common, the best over its references. Both are means over questions.
    A question without references has no answer: then "" scores 1 and all else 0.

    Where every question has references the numbers are those of version 1.1's script; else those
    of 2.0's, which leaves out references that normalise to nothing, such as "the". In 1.1 the
    same words match exactly and have an F1 of 0.

    Args:
        predictions: question's id → answer, "" for none. A question that is missing counts as
            wrong.
        references: question's id → its right answers; none where the text has no answer.

    Returns:
        `exact_match` and `f1`, 0 to 100. If some questions have no answer, also `exact_match` and
        `f1` of `/answerable` and `exact_match/unanswerable` ones. Without questions all are 0.

    Example:
        "the Norman king" for the references "Norman", "Normans": exact match 0, f1 66.7.

    Reference:
        Rajpurkar et al., 2016, arXiv:1606.05250; Rajpurkar et al., 2018, arXiv:1806.03822.
    """
    exact, f1 = _by_question(predictions, references)
    answerable = np.array([len(golds) > 0 for golds in _normalised(references)], bool)
    found = {"exact_match": _percent(exact), "f1": _percent(f1)}
    if not answerable.all():
        found["exact_match/answerable"] = _percent(exact[answerable])
        found["f1/answerable"] = _percent(f1[answerable])
        found["exact_match/unanswerable"] = _percent(exact[~answerable])
    return found


def best_no_answer_threshold(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    no_answer_scores: Mapping[str, float],
) -> float:
    """Find from which score on "no answer" should be said, for the highest F1.

    Args:
        predictions: question's id → the best answer, as if every question had one.
        references: question's id → its right answers; none where the text has no answer.
        no_answer_scores: question's id → how much better no answer is than this one: the score
            of no answer less the prediction's.

    Returns:
        the threshold: above it, the answer is "". It is the highest of the best ones, and lies
        half way between two scores that occur, or 1 beyond all of them.

    Example:
        scores −3, 2 and 5 of a right answer, a right answer and an unanswerable question → 3.5.
    """
    if not references:
        return 0.0
    _, with_answer = _by_question(predictions, references)
    silent = dict.fromkeys(references, "")
    _, without_answer = _by_question(silent, references)
    scores = np.array([no_answer_scores[question] for question in references], np.float64)
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    # Value k: answers are given to the k questions with the lowest scores.
    gain = (with_answer - without_answer)[order]
    totals = np.concatenate([[0.0], np.cumsum(gain)])
    bounds = np.concatenate([[scores[0] - 1], (scores[:-1] + scores[1:]) / 2, [scores[-1] + 1]])
    # Equal scores fall together.
    possible = np.flatnonzero(np.concatenate([[True], scores[:-1] != scores[1:], [True]]))
    best = possible[np.isclose(totals[possible], totals[possible].max(), rtol=0, atol=1e-9)]
    return float(bounds[best[-1]])


def answers_or_none(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    no_answer_scores: Mapping[str, float],
    threshold: float | None,
) -> dict[str, str]:
    """Say "" where no answer is enough better.

    Args:
        predictions: see `best_no_answer_threshold`, as the next two.
        references: question's id → its right answers.
        no_answer_scores: question's id → how much better no answer is.
        threshold: from where on no answer is given; None for the best one, or for always an
            answer where every question has one.
    """
    if threshold is None and all(references.values()):
        return dict(predictions)
    if threshold is None:
        threshold = best_no_answer_threshold(predictions, references, no_answer_scores)
    return {
        question: "" if no_answer_scores[question] > threshold else answer
        for question, answer in predictions.items()
    }


def normalised_answer(text: str) -> str:
    """Bring an answer into the form in which SQuAD compares them.

    Lower case, without ASCII punctuation, without the words "a", "an" and "the", single spaces.

    Example:
        "The  U.S. Army's" → "us armys".
    """
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _by_question(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Exact match and F1 of each question, `<float64>[questions]` each."""
    scores = np.zeros((len(references), 2))
    for row, (question, golds) in enumerate(zip(references, _normalised(references), strict=True)):
        if question not in predictions:
            continue
        prediction = normalised_answer(predictions[question])
        if golds:
            scores[row] = prediction in golds, max(_f1(prediction, gold) for gold in golds)
        else:
            scores[row] = not prediction
    return scores[:, 0], scores[:, 1]


def _normalised(references: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """What each question's answer is compared with; nothing where it has none."""
    found = [[normalised_answer(gold) for gold in golds] for golds in references.values()]
    if all(found):
        return found
    return [[gold for gold in golds if gold] for golds in found]


def _f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall of words, both normalised."""
    words, right = prediction.split(), gold.split()
    common = (Counter(words) & Counter(right)).total()
    return 2 * common / (len(words) + len(right)) if common else 0.0


def _percent(values: np.ndarray) -> float:
    return 100 * float(values.mean()) if len(values) else 0.0
