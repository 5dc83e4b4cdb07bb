"""Tags of words: entities that are found whole, or each tag by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tfllm.errors import InputError

__all__ = ["entities", "tagging"]

_Tags = Sequence[Sequence[str]]
_IOB2 = re.compile(r"O|[BI]-.+", re.DOTALL)


def entities(true_tags: _Tags, predicted_tags: _Tags) -> dict[str, float]:
    """Measure entities as CoNLL-2003 does: right only with the right words and the right type.

    Tags are read strictly as IOB2, by seqeval: an entity begins with `B-`. A predicted `I-`
    that follows no tag of its own type begins no entity; it makes its sequence an illegal one.

    Args:
        true_tags: the tags of each sentence's words.
        predicted_tags: as many.

    Returns:
        `precision`, `recall`, `f1` over all entities, `f1/<type>` for each type that is true or
        predicted, and `illegal_sequences`, the number of predicted sentences that hold an
        illegal tag. A share of nothing is 0.

    Raises:
        InputError: if a tag is not of the scheme, or sentences differ in their number of words.

    Example:
        true `B-PER I-PER O B-LOC`, predicted `B-PER O O B-LOC`: precision, recall and f1 1/2,
        f1 of LOC 1, of PER 0.

    Reference:
        Tjong Kim Sang and De Meulder, 2003, Introduction to the CoNLL-2003 shared task.
    """
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    true, predicted = ([[*tags] for tags in sentences] for sentences in (true_tags, predicted_tags))
    _check_lengths(true, predicted)
    _check_scheme(true, predicted)
    illegal = float(sum(not _is_legal(tags) for tags in predicted))
    if not true:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "illegal_sequences": 0.0}

    def measure(average: str | None) -> tuple:
        return precision_recall_fscore_support(
            true, predicted, average=average, scheme=IOB2, zero_division=0.0
        )

    precision, recall, f1, _ = measure("micro")
    types = sorted({tag[2:] for tags in (*true, *predicted) for tag in tags if tag != "O"})
    # seqeval gives types that have an entity, in this order; an illegal tag alone makes none.
    having = [kind for kind in types if any(f"B-{kind}" in tags for tags in (*true, *predicted))]
    by_type = dict(zip(having, measure(None)[2], strict=True))
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        **{f"f1/{kind}": float(by_type.get(kind, 0.0)) for kind in types},
        "illegal_sequences": illegal,
    }


def tagging(true_tags: _Tags, predicted_tags: _Tags) -> dict[str, float]:
    """Measure tags one by one, as parts of speech are.

    Args:
        true_tags: the tags of each sentence's words.
        predicted_tags: as many.

    Returns:
        `accuracy` over words, `sentence_accuracy` (the share of sentences without a wrong tag),
        `macro_f1` over the tags that occur, and `f1/<tag>`. Without words all are 0.

    Raises:
        InputError: if sentences differ in their number of words.
    """
    from sklearn.metrics import f1_score

    _check_lengths(true_tags, predicted_tags)
    true = [tag for tags in true_tags for tag in tags]
    if not true:
        return {"accuracy": 0.0, "sentence_accuracy": 0.0, "macro_f1": 0.0}
    predicted = [tag for tags in predicted_tags for tag in tags]
    names = sorted({*true, *predicted})
    by_tag = f1_score(true, predicted, labels=names, average=None, zero_division=0.0)
    whole = [[*a] == [*b] for a, b in zip(true_tags, predicted_tags, strict=True)]
    return {
        "accuracy": float(np.mean([a == b for a, b in zip(true, predicted, strict=True)])),
        "sentence_accuracy": float(np.mean(whole)),
        "macro_f1": float(np.mean(by_tag)),
        **{f"f1/{tag}": float(value) for tag, value in zip(names, by_tag, strict=True)},
    }


def _is_legal(tags: Sequence[str]) -> bool:
    """Whether every `I-` follows a tag of its own type."""
    before = ["O", *tags]
    return all(
        not tag.startswith("I-") or before[i] in (f"B-{tag[2:]}", tag) for i, tag in enumerate(tags)
    )


def _check_lengths(true: _Tags, predicted: _Tags) -> None:
    if len(true) != len(predicted):
        raise InputError(
            f"{len(true)} sentences have true tags and {len(predicted)} predicted ones: give the "
            "same sentences"
        )
    for number, (a, b) in enumerate(zip(true, predicted, strict=True), start=1):
        if len(a) != len(b):
            raise InputError(
                f"sentence {number} has {len(a)} true tags and {len(b)} predicted ones: give one "
                "for each word"
            )


def _check_scheme(*sides: _Tags) -> None:
    for tag in sorted({tag for side in sides for tags in side for tag in tags}):
        if not _IOB2.fullmatch(tag):
            raise InputError(
                f"tag {tag!r} is not of the scheme iob2 (O, B-TYPE, I-TYPE). Convert the tags, or "
                "give --scheme none to measure tags one by one"
            )
