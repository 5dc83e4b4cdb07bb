"""How many tokens texts have: all counted, or a sample where they are many."""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Sample", "TokenCount", "count_tokens", "cut_texts", "draw_sample"]

_BATCH = 64
_PIECE_CHARACTERS = 4096
_BETWEEN = re.compile(r"\S(?=\s)")


class Sample(NamedTuple):
    """Texts drawn at random from a stream.

    Attributes:
        texts: all of them, or as many as were wished.
        rows: texts of the stream.
        characters: of the stream.
    """

    texts: Sequence[str]
    rows: int
    characters: int


class TokenCount(NamedTuple):
    """Tokens of a data set.

    Attributes:
        rows: texts.
        tokens: of all texts, special tokens included and none cut off.
        standard_error: of `tokens`; 0 where all were counted.
        row_tokens: mean of a row that is cut off at the length of training.
        cut_share: of rows that are.
        counted: texts that were tokenized.
    """

    rows: int
    tokens: float
    standard_error: float
    row_tokens: float
    cut_share: float
    counted: int


def cut_texts(texts: Iterable[str], characters: int = _PIECE_CHARACTERS) -> Iterator[str]:
    """Cut long texts into pieces that can be drawn one by one, each before a white space.

    Tokenizers that part words at white space give the pieces the tokens that they give the whole.

    Args:
        texts: of any length.
        characters: of a piece, at least; a word is never cut.
    """
    for text in texts:
        begin = 0
        for match in _BETWEEN.finditer(text):
            if match.end() - begin >= characters:
                yield text[begin : match.end()]
                begin = match.end()
        if begin < len(text):
            yield text[begin:]


def draw_sample(texts: Iterable[str], most: int, seed: int = 0) -> Sample:
    """Go through texts once and keep some, each as likely as every other.

    Args:
        texts: any number, one at a time.
        most: texts to keep.
        seed: decides which.

    Reference:
        Vitter, Random Sampling with a Reservoir, 1985 (algorithm R).
    """
    rng = random.Random(seed)
    kept: list[str] = []
    rows = characters = 0
    for text in texts:
        rows += 1
        characters += len(text)
        if len(kept) < most:
            kept.append(text)
            continue
        place = rng.randrange(rows)
        if place < most:
            kept[place] = text
    return Sample(kept, rows, characters)


def count_tokens(
    sample: Sample,
    lengths_of: Callable[[Sequence[str]], Sequence[int]],
    *,
    row_tokens: int,
    batch: int = _BATCH,
) -> TokenCount:
    """Tokenize a sample, and say how many tokens all texts have.

    The estimate is the sample's tokens for each character times all characters, which are known:
    it errs far less than the mean of a text times their number would, because long texts have
    many of both. Its standard error is that of a ratio, over texts drawn without replacement.

    Args:
        sample: of `draw_sample`.
        lengths_of: tokenizes texts, and gives each one's number of tokens.
        row_tokens: tokens after which training cuts a row off.
        batch: texts that are tokenized at once.

    Reference:
        Cochran, Sampling Techniques, 1977, chapter 6 (ratio estimates).
    """
    texts = sample.texts
    lengths: list[int] = []
    for first in range(0, len(texts), batch):
        lengths += lengths_of(texts[first : first + batch])
    cut = [min(length, row_tokens) for length in lengths]
    found = TokenCount(
        rows=sample.rows,
        tokens=float(sum(lengths)),
        standard_error=0.0,
        row_tokens=statistics.fmean(cut) if cut else 0.0,
        cut_share=sum(length > row_tokens for length in lengths) / max(1, len(lengths)),
        counted=len(lengths),
    )
    if len(texts) == sample.rows:
        return found
    characters = [len(text) for text in texts]
    ratio = sum(lengths) / max(1, sum(characters))
    return found._replace(
        tokens=ratio * sample.characters,
        standard_error=_standard_error(lengths, characters, ratio, sample.rows),
    )


def _standard_error(
    lengths: Sequence[int], characters: Sequence[int], ratio: float, rows: int
) -> float:
    drawn = len(lengths)
    if drawn < 2:
        return math.inf
    pairs = zip(lengths, characters, strict=True)
    residuals = [length - ratio * size for length, size in pairs]
    variance = sum(r * r for r in residuals) / (drawn - 1)
    return rows * math.sqrt((1 - drawn / rows) * variance / drawn)
