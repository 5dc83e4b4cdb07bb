"""The best answer to each question, over the windows of its context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfllm.training.join_windows import best_windows

__all__ = ["BestAnswers", "best_answers"]


class BestAnswers(NamedTuple):
    """The best answer to each question.

    Attributes:
        texts: cut out of the contexts.
        scores: `<float>[questions]`, how sure each is.
        margins: `<float>[questions]`, how much surer no answer is, in the window where that is
            least so.
    """

    texts: list[str]
    scores: np.ndarray
    margins: np.ndarray


def best_answers(
    store: Any, contexts: Iterable[str], outputs: Mapping[str, np.ndarray]
) -> BestAnswers:
    """Cut each question's best answer out of its context.

    Args:
        store: `tfllm.data.ArrayStore` of a `QuestionEncoder`.
        contexts: one for each question, in the store's order.
        outputs: `score`, `no_answer_score`, `start` and `end` of each window, aligned with the
            store's rows.
    """
    windows = np.asarray(store.values("window"))
    best = best_windows(outputs["score"], windows)
    first_token = store.offsets("starts")[best]
    starts = store.values("starts")[first_token + outputs["start"][best]]
    ends = store.values("ends")[first_token + outputs["end"][best]]
    texts = [context[a:b] for context, a, b in zip(contexts, starts, ends, strict=True)]
    least = np.minimum.reduceat(outputs["no_answer_score"], np.flatnonzero(windows == 0))
    return BestAnswers(texts, outputs["score"][best], least - outputs["score"][best])
