"""Generated texts, measured against references as papers on summaries and translations do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Literal

from tfllm.errors import InputError
from tfllm.metrics.language_model_metrics import perplexity

__all__ = ["GENERATION_METRICS", "generation", "signatures"]

# What can be asked for → the numbers that it gives.
GENERATION_METRICS: dict[str, tuple[str, ...]] = {
    "rouge": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    "bleu": ("bleu",),
    "chrf": ("chrf",),
    "distinct": ("distinct_1", "distinct_2"),
    "exact_match": ("exact_match",),
    "perplexity": ("perplexity",),
}

Words = Literal["13a", "zh", "char"]
_References = Sequence[str] | Sequence[Sequence[str]]


def generation(
    names: Sequence[str],
    predictions: Sequence[str],
    references: _References,
    *,
    words: Words = "13a",
    stemmer: bool = True,
    loss: float | None = None,
) -> dict[str, float]:
    """Measure generated texts; rouge, bleu, chrf and exact_match in percent.

    - `rouge`: F1 of words (1), of pairs of words (2), and of the longest common subsequence, of
      whole texts (L) and by lines (Lsum): the mean over examples, as rouge-score gives it. Its own
      words are runs of ASCII's letters and digits and it drops everything else, so that Chinese
      would score 0: with other `words` than 13a these are what is counted.
    - `bleu`: of the whole corpus, by sacreBLEU, smoothed exponentially. Texts should not be
      tokenized beforehand.
    - `chrf`: of the whole corpus, by sacreBLEU: n-grams of 1 to 6 characters, β = 2.
    - `distinct`: different words (and pairs) over all words (and pairs) of all predictions, from
      0 to 1. References don't matter.
    - `exact_match`: share of predictions that are one of their references, white space at both
      ends apart.
    - `perplexity`: of `loss`.

    Of several references rouge takes the one with the highest F1, for each number apart.

    Args:
        names: of `GENERATION_METRICS`.
        predictions: one text an example.
        references: for each example one text, or several.
        words: what a word is: `13a` as in BLEU's reference script (Latin), `zh` Chinese characters
            and Latin words, `char` any character.
        stemmer: whether rouge takes words of over three letters by Porter's stem, as papers on
            summaries do; for English, and with the words `13a` alone.
        loss: mean nats per token, which perplexity is of.

    Returns:
        numbers by name, see `GENERATION_METRICS`. Without examples, or without words, 0.

    Raises:
        InputError: if a name is unknown, an example has no reference, predictions and references
            are not equally many, or rouge knows no character of the references.

    Example:
        "the cat sat" for "the cat sat down": rouge1 85.7, rouge2 80.0, distinct_1 1.0.

    Reference:
        Lin, 2004, ROUGE. Papineni et al., 2002, BLEU; Post, 2018, arXiv:1804.08771. Popović, 2015,
        chrF. Li et al., 2016, arXiv:1510.03055 (distinct).
    """
    _check_names(names)
    several = _lists_of(references)
    _check_examples(predictions, several)
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "rouge": lambda: _rouge(predictions, several, words, stemmer),
        "bleu": lambda: {"bleu": _corpus_score(_bleu(words), predictions, several)},
        "chrf": lambda: {"chrf": _corpus_score(_chrf(), predictions, several)},
        "distinct": lambda: _distinct(predictions, words),
        "exact_match": lambda: {"exact_match": _exact_match(predictions, several)},
        "perplexity": lambda: _perplexity(loss),
    }
    return {key: value for name in names for key, value in measures[name]().items()}


def signatures(
    names: Sequence[str],
    *,
    words: Words = "13a",
    stemmer: bool = True,
    references: int | Literal["var"] = 1,
) -> dict[str, str]:
    """Say how `generation` measures, in the words that papers quote.

    Args:
        names: of `GENERATION_METRICS`; those without settings are left out.
        words: as `generation` takes it.
        stemmer: as `generation` takes it.
        references: of each example; `var` where they differ.

    Returns:
        name → signature.

    Raises:
        InputError: if a name is unknown.

    Example:
        `{"bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"}`
    """
    _check_names(names)
    stem = "yes" if stemmer and words == "13a" else "no"
    kind = "default" if words == "13a" else words
    measures: dict[str, Callable[[], str]] = {
        "rouge": lambda: f"nrefs:{references}|stem:{stem}|tok:{kind}|version:{_rouge_version()}",
        "bleu": lambda: _sacrebleu_signature(_bleu(words), references),
        "chrf": lambda: _sacrebleu_signature(_chrf(), references),
    }
    return {name: measures[name]() for name in names if name in measures}


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in GENERATION_METRICS:
            raise InputError(
                f"there is no metric {name!r} of generated text. Choose among "
                f"{', '.join(GENERATION_METRICS)}"
            )


def _lists_of(references: _References) -> list[list[str]]:
    return [[one] if isinstance(one, str) else list(one) for one in references]


def _check_examples(predictions: Sequence[str], references: list[list[str]]) -> None:
    if len(predictions) != len(references):
        raise InputError(
            "predictions and references must be equally many. Received: "
            f"{len(predictions)} and {len(references)}"
        )
    for number, several in enumerate(references):
        if not several:
            raise InputError(f"example {number}, counted from 0, has no reference")


def _rouge(
    predictions: Sequence[str], references: list[list[str]], words: Words, stemmer: bool
) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    names = GENERATION_METRICS["rouge"]
    if words == "13a":
        _check_rouge_knows(references)
    tokenizer = None if words == "13a" else _WordTokenizer(words)
    scorer = RougeScorer(names, use_stemmer=stemmer, tokenizer=tokenizer)
    totals = dict.fromkeys(names, 0.0)
    for prediction, several in zip(predictions, references, strict=True):
        for name, score in scorer.score_multi(several, prediction).items():
            totals[name] += float(score.fmeasure)
    return {name: 100 * total / max(1, len(predictions)) for name, total in totals.items()}


def _check_rouge_knows(references: list[list[str]]) -> None:
    """Refuse texts in which rouge would see no words at all."""
    texts = [text for several in references for text in several]
    written = [text for text in texts if any(map(str.isalpha, text))]
    if written and not any(c.isascii() and c.isalnum() for text in written for c in text):
        raise InputError(
            "rouge counts ASCII's letters and digits, and no reference has any, such as "
            f"{written[0][:40]!r}. Count Chinese characters with words='zh', others with 'char'"
        )


class _WordTokenizer:
    """Gives rouge-score the words that BLEU counts, in small letters as it has its own."""

    def __init__(self, words: Words) -> None:
        self._split = _splitter(words)

    def tokenize(self, text: str) -> list[str]:
        return self._split(text.lower())


def _rouge_version() -> str:
    return version("rouge-score")


def _splitter(words: Words) -> Callable[[str], list[str]]:
    """Give what cuts a text into BLEU's words."""
    tokenizer = _bleu(words).tokenizer
    return lambda text: tokenizer(text.strip()).split()


def _bleu(words: Words) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    # Without `force` it would complain of texts that end in " ." after every epoch.
    return BLEU(tokenize=words, force=True)


def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _corpus_score(metric: Any, predictions: Sequence[str], references: list[list[str]]) -> float:
    if not predictions:
        return 0.0
    return float(metric.corpus_score(list(predictions), _streams(references)).score)


def _streams(references: list[list[str]]) -> list[list[str | None]]:
    """Turn references by example into sacreBLEU's streams: `[number][example]`, None if missing."""
    most = max(map(len, references))
    return [
        [(several[n] if n < len(several) else None) for several in references] for n in range(most)
    ]


def _sacrebleu_signature(metric: Any, references: int | Literal["var"]) -> str:
    # sacreBLEU counts references only where it scores.
    several = [["a"], ["a", "a"]] if references == "var" else [["a"] * references]
    _corpus_score(metric, ["a"] * len(several), several)
    return str(metric.get_signature())


def _distinct(predictions: Sequence[str], words: Words) -> dict[str, float]:
    split = _splitter(words)
    texts = [split(text) for text in predictions]
    return {f"distinct_{n}": _distinct_share(texts, n) for n in (1, 2)}


def _distinct_share(texts: list[list[str]], n: int) -> float:
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


def _exact_match(predictions: Sequence[str], references: list[list[str]]) -> float:
    pairs = zip(predictions, references, strict=True)
    right = sum(text.strip() in {one.strip() for one in several} for text, several in pairs)
    return 100 * right / max(1, len(predictions))


def _perplexity(loss: float | None) -> dict[str, float]:
    if loss is None:
        raise InputError("perplexity is of a loss, and none was given")
    return {"perplexity": perplexity(loss)}
