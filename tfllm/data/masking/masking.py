"""Drawing the tokens that a masked language model has to guess."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from tfllm.data.masking.masked_tokens import MaskedTokens
from tfllm.data.masking.units import span_units, word_units
from tfllm.data.random_bits import random_bits, uniform
from tfllm.errors import InputError

__all__ = ["MaskUnit", "Masking"]

MaskUnit = Literal["token", "word", "span"]
_MASK_TOKENS = ("[MASK]", "<mask>")
_MOST = 0.5


@dataclass(frozen=True)
class Masking:
    """Which tokens are masked, drawn anew for each row in each epoch.

    Of a row, its units (tokens, words, or spans of words) are put around a circle in random order,
    and those are masked that begin on an arc of `rate` of it, which starts anywhere. So each token
    is masked with a probability of exactly `rate`, whatever the length of its word and of its row,
    and a row has as many masks as its share, give or take a unit. A row of three tokens has
    none in most epochs: at least one, as in BERT, would mask a third of it.

    Everything is a pure function of the seed, the epoch, the row's number and its own tokens.

    Attributes:
        mask_id: stands where a token was.
        vocabulary_size: random words are drawn below it.
        special_ids: never masked, never drawn.
        rate: share of the other tokens that are masked.
        unit: what is masked together.
        max_span: words of a span at most; one of n words is drawn with a probability ∝ 1 / n.
        mask_share: of masked tokens, those that become the mask.
        random_share: those that become a random word; the rest stay as they are. Decided for each
            token, and for spans once for all of each.

    Raises:
        InputError: if a setting is out of its range.

    Reference:
        Devlin et al., BERT, 2018, arXiv:1810.04805; for spans Joshi et al., SpanBERT, 2020,
        arXiv:1907.10529, and Lan et al., ALBERT, 2019, arXiv:1909.11942.
    """

    mask_id: int
    vocabulary_size: int
    special_ids: tuple[int, ...]
    rate: float = 0.15
    unit: MaskUnit = "token"
    max_span: int = 3
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if not 0 < self.rate <= _MOST:
            raise InputError(
                f"--mask_rate must be above 0 and at most {_MOST}: the share of tokens to guess. "
                f"Received: {self.rate}. Take 0.15, as BERT does"
            )
        if self.unit not in get_args(MaskUnit):
            units = ", ".join(get_args(MaskUnit))
            raise InputError(f"--mask_unit must be one of {units}. Received: {self.unit!r}")
        if self.max_span < 1:
            raise InputError(f"max_span must be at least 1 word. Received: {self.max_span}")
        shares = (self.mask_share, self.random_share)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise InputError(
                "mask_share and random_share must be at least 0, and together at most 1. "
                f"Received: {self.mask_share} and {self.random_share}"
            )
        if not len(self._words):
            raise InputError("the vocabulary holds nothing but special tokens. Give another one")

    @classmethod
    def of(
        cls, tokenizer: Any, *, rate: float = 0.15, unit: MaskUnit = "token", max_span: int = 3
    ) -> Masking:
        """Take the ids from a `tfllm.text.Tokenizer`.

        Raises:
            InputError: if its vocabulary has no mask, or a setting is out of its range.
        """
        special = tokenizer.special_tokens
        named = [special[token] for token in _MASK_TOKENS if token in special]
        mask_id = getattr(tokenizer, "mask_id", None)
        if mask_id is None and not named:
            raise InputError(
                "the vocabulary has no [MASK] token, and masked pretraining needs one. Its special "
                f"tokens: {', '.join(special) or 'none'}. Give a vocabulary with [MASK], or name "
                "one as mask_token in the folder's special_tokens_map.json"
            )
        mask_id = named[0] if mask_id is None else mask_id
        return cls(
            mask_id=mask_id,
            vocabulary_size=tokenizer.vocabulary_size,
            special_ids=tuple(sorted({*special.values(), mask_id})),
            rate=rate,
            unit=unit,
            max_span=max_span,
        )

    def identity(self) -> dict[str, Any]:
        """What decides the masks, as JSON knows it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "special_ids": list(self.special_ids)
        }

    def is_special(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens are never masked, `<bool>` of the shape of `ids`."""
        return self._special[ids]

    def draw(
        self,
        ids: np.ndarray,
        word_starts: np.ndarray,
        lengths: np.ndarray,
        rows: np.ndarray,
        *,
        seed: int,
        epoch: int,
    ) -> MaskedTokens:
        """Mask some rows.

        Args:
            ids: `<int>[tokens]`, row after row, special tokens included.
            word_starts: `<int>[tokens]`, 1 on the first token of each word.
            lengths: `<int64>[rows]`, tokens of each row.
            rows: `<int64>[rows]`, the number of each row, which decides its masks.
            seed: decides them too.
            epoch: the same; other masks for each.

        Example:
            [CLS] the em ##bed ##ding [SEP] with words as units → "the" or "em ##bed ##ding" is
            masked as a whole, or neither.
        """
        row = np.repeat(np.arange(len(lengths)), lengths)
        position = np.arange(len(ids)) - (np.cumsum(lengths) - lengths)[row]
        places = np.flatnonzero(~self._special[ids])
        word = np.cumsum((word_starts != 0) | (position == 0))[places]
        row, position = row[places], position[places]
        begins = self._units(word, places, row, rows, seed, epoch)
        unit = np.cumsum(begins) - 1
        chosen = self._choose(begins, row, position, rows, seed, epoch)[unit]
        # What one decision is for: a token, or a whole span.
        decided = position[np.flatnonzero(begins)][unit] if self.unit == "span" else position
        masked = places[chosen]
        ids = self._replace(
            ids[masked], rows[row[chosen]], position[chosen], decided[chosen], seed, epoch
        )
        return MaskedTokens(masked, ids)

    def _units(
        self,
        word: np.ndarray,
        places: np.ndarray,
        row: np.ndarray,
        rows: np.ndarray,
        seed: int,
        epoch: int,
    ) -> np.ndarray:
        """Where a unit begins, `<bool>[tokens]`."""
        if self.unit == "token":
            return np.ones(len(places), bool)
        begins = word_units(word)
        if self.unit == "word":
            return begins
        return span_units(
            begins, places, row, rows, max_words=self.max_span, seed=seed, epoch=epoch
        )

    def _choose(
        self,
        begins: np.ndarray,
        row: np.ndarray,
        position: np.ndarray,
        rows: np.ndarray,
        seed: int,
        epoch: int,
    ) -> np.ndarray:
        """Which units are masked, `<bool>[units]`."""
        first = np.flatnonzero(begins)
        sizes = np.diff(first, append=len(row))
        row, position = row[first], position[first]
        order = _shuffled(row, random_bits("order", seed, epoch, rows[row], position), len(rows))
        # Rows stay where they are, since only units of one row change places.
        size, tokens = sizes[order], np.bincount(row, sizes, len(rows))
        begin = np.cumsum(size) - size - (np.cumsum(tokens) - tokens)[row]
        arc = tokens * uniform(random_bits("arc", seed, epoch, rows, np.zeros_like(rows)))
        chosen = np.empty(len(first), bool)
        chosen[order] = (begin - arc[row]) % tokens[row] < self.rate * tokens[row]
        return chosen

    def _replace(
        self,
        ids: np.ndarray,
        rows: np.ndarray,
        position: np.ndarray,
        decided: np.ndarray,
        seed: int,
        epoch: int,
    ) -> np.ndarray:
        kind = uniform(random_bits("kind", seed, epoch, rows, decided))
        number = uniform(random_bits("word", seed, epoch, rows, position)) * len(self._words)
        random = self._words[number.astype(np.int64)]
        kept = np.where(kind < self.mask_share + self.random_share, random, ids)
        return np.where(kind < self.mask_share, self.mask_id, kept).astype(np.int64)

    @cached_property
    def _special(self) -> np.ndarray:
        """Which ids are special, `<bool>[vocabulary_size]`."""
        special = np.zeros(self.vocabulary_size, bool)
        special[list(self.special_ids)] = True
        return special

    @cached_property
    def _words(self) -> np.ndarray:
        """The other ids."""
        return np.flatnonzero(~self._special)


def _shuffled(row: np.ndarray, bits: np.ndarray, rows: int) -> np.ndarray:
    """Sort units by row, and within each by their bits; one sort of one number each."""
    room = np.uint64(max(1, rows.bit_length()))
    keys = (row.astype(np.uint64) << (np.uint64(64) - room)) | (bits >> room)
    return np.argsort(keys, kind="stable")
