"""Texts and pairs of texts, with a label or without, as a backbone's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import listed, shown, texts_of
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["TextEncoder", "Truncation"]

# The names that `tfllm.text.Preprocessor` and Hugging Face have for them.
Truncation = Literal["longest_first", "only_first", "only_second"]


@dataclass(frozen=True)
class TextEncoder:
    """One text or a pair as Hugging Face's fast tokenizer encodes it: special tokens, truncation.

    Columns: `input_ids`, ragged, `uint16` or `uint32`; for pairs `token_type_ids`, ragged,
    `uint8`; and `label`: the number of a class, `<int32>[rows]`; 1 or 0 for each of several
    classes, `<float32>[rows, classes]`; or a number, `<float32>[rows]`. Counts: `text_bytes`,
    `rows_truncated`, `tokens_cut`.

    Attributes:
        tokenizer: its own template adds the special tokens.
        max_tokens: the longest row, special tokens included; longer ones are cut at their end.
        first: the field of the text, or of the first of two.
        second: the field of the second, or None.
        truncation: which of two texts gives tokens: the longer one at each, or always that one.
        label: the field of the label, or None.
        labels: their names, in the order of their numbers; empty: each label is a number.
        multi_label: whether the field holds a list of names, none or several.

    Raises:
        InputError: if `max_tokens` leaves no room for text, or the settings contradict each other.
    """

    tokenizer: FastTokenizer
    max_tokens: int
    first: str = "text"
    second: str | None = None
    truncation: Truncation = "longest_first"
    label: str | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if self.truncation not in get_args(Truncation):
            raise InputError(
                f"truncation must be one of {', '.join(get_args(Truncation))}. Received: "
                f"{self.truncation!r}"
            )
        if self.multi_label and not self.labels:
            raise InputError("multi_label needs the labels' names. Received: labels=()")
        if self.truncation == "only_second" and self.second is None:
            raise InputError(
                "truncation 'only_second' needs a second text, and there is one text a row. "
                "Take 'longest_first'"
            )
        special = self.tokenizer.fast.num_special_tokens_to_add(self.second is not None)
        if self.max_tokens <= special:
            raise InputError(
                f"max_tokens {self.max_tokens} leaves no room for text beside {special} special "
                "tokens. Give more"
            )

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes."""
        return ("input_ids", "token_type_ids") if self._has_types else ("input_ids",)

    @cached_property
    def _has_types(self) -> bool:
        """Whether token types tell anything: of pairs, and of XLNet's own for its last token."""
        return self.second is not None or any(self.tokenizer.fast.encode("a").type_ids)

    @property
    def target_column(self) -> str | None:
        """The column to predict, if there is one."""
        return "label" if self.label is not None else None

    @property
    def weight_column(self) -> str | None:
        """All rows count alike."""
        return None

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "text",
            "version": 3,
            "tokenizer": self.tokenizer.fingerprint,
            "max_tokens": self.max_tokens,
            "first": self.first,
            "second": self.second,
            "truncation": self.truncation,
            "label": self.label,
            "labels": list(self.labels),
            "multi_label": self.multi_label,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode texts.

        Example:
            the pair "a b c" and "d", at most six tokens: [CLS] a b [SEP] d [SEP], one row
            truncated, one token cut.
        """
        inputs = self._inputs(examples)
        encodings = self._encode(inputs, examples)
        ids = [encoding.ids for encoding in encodings]
        columns: dict[str, np.ndarray | Ragged] = {
            "input_ids": Ragged.of(ids, self.tokenizer.dtype)
        }
        if self._has_types:
            types = [encoding.type_ids for encoding in encodings]
            columns["token_type_ids"] = Ragged.of(types, np.dtype(np.uint8))
        if self.label is not None:
            make = self._multi_hot if self.multi_label else self._numbers
            columns["label"] = make(examples, self.label)
        cut = self._cut(inputs, ids)
        counts = {
            "text_bytes": sum(len(text.encode()) for row in inputs for text in row),
            "rows_truncated": sum(tokens > 0 for tokens in cut),
            "tokens_cut": sum(cut),
        }
        return Encoded(columns, counts)

    def _inputs(self, examples: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
        fields = [self.first] if self.second is None else [self.first, self.second]
        return list(zip(*(texts_of(examples, field) for field in fields), strict=True))

    def _encode(
        self, inputs: list[tuple[str, ...]], examples: Sequence[Mapping[str, Any]]
    ) -> list[tokenizers.Encoding]:
        fast = self.tokenizer.truncating
        fast.enable_truncation(self.max_tokens, strategy=self.truncation)
        try:
            return fast.encode_batch_fast(_for_hugging_face(inputs))
        except Exception:  # tokenizers raises nothing more precise
            for row, example in zip(inputs, examples, strict=True):
                self._refuse_hopeless(fast, row, example)
            raise

    def _refuse_hopeless(
        self, fast: tokenizers.Tokenizer, row: tuple[str, ...], example: Mapping[str, Any]
    ) -> None:
        try:
            fast.encode(*row)
        except Exception as error:
            other = self.first if self.truncation == "only_second" else self.second
            raise InputError(
                f"truncation {self.truncation!r} can't make {shown(example)} as short as "
                f"{self.max_tokens} tokens, since {other!r} alone is longer. Take "
                "'longest_first' or more tokens"
            ) from error

    def _cut(self, inputs: list[tuple[str, ...]], ids: list[list[int]]) -> list[int]:
        """How many tokens truncation took from each row that it may have touched."""
        full = [row for row, kept in zip(inputs, ids, strict=True) if len(kept) >= self.max_tokens]
        whole = self.tokenizer.fast.encode_batch_fast(_for_hugging_face(full))
        return [len(encoding) - self.max_tokens for encoding in whole]

    def _numbers(self, examples: Sequence[Mapping[str, Any]], field: str) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.labels)}
        made = np.empty(len(examples), np.int32 if self.labels else np.float32)
        for row, example in enumerate(examples):
            value = example.get(field)
            try:
                made[row] = numbers[str(value)] if self.labels else _float32(value)
            except (KeyError, TypeError, ValueError):
                known = f"one of {listed(self.labels)}" if self.labels else "a number"
                raise InputError(
                    f"the label {field!r} of an example must be {known}. Received: {value!r} in "
                    f"{shown(example)}"
                ) from None
        return made

    def _multi_hot(self, examples: Sequence[Mapping[str, Any]], field: str) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.labels)}
        made = np.zeros((len(examples), len(self.labels)), np.float32)
        for row, example in enumerate(examples):
            names = example.get(field)
            try:
                if isinstance(names, str):
                    raise TypeError
                made[row, [numbers[str(name)] for name in names]] = 1  # type: ignore[union-attr]
            except (KeyError, TypeError):
                raise InputError(
                    f"the labels {field!r} of an example must be a list of some of "
                    f"{listed(self.labels)}. Received: {names!r} in {shown(example)}"
                ) from None
        return made


def _float32(value: Any) -> np.float32:
    with np.errstate(over="ignore"):
        number = np.float32(value)
    if not np.isfinite(number):
        raise ValueError(f"{value} is beyond float32")
    return number


def _for_hugging_face(inputs: list[tuple[str, ...]]) -> list[Any]:
    """Hugging Face takes a pair as a tuple, and one text as it is."""
    return [row[0] if len(row) == 1 else row for row in inputs]
