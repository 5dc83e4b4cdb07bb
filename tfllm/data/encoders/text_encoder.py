"""Texts and pairs of texts, with a label or without, as a backbone's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import shown, texts_of
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["TextEncoder", "Truncation"]

Truncation = Literal["longest_first", "first", "second"]
_NAMES = {"longest_first": "longest_first", "first": "only_first", "second": "only_second"}


@dataclass(frozen=True)
class TextEncoder:
    """One text or a pair as Hugging Face's fast tokenizer encodes it: special tokens, truncation.

    Columns: `input_ids`, ragged, `uint16` or `uint32`; for pairs `token_type_ids`, ragged,
    `uint8`; and `label`, `<int32>[rows]` where classes are named, else `<float32>[rows]`. Counts:
    `text_bytes`, `rows_truncated`, `tokens_cut`.

    Attributes:
        tokenizer: its own template adds the special tokens.
        max_tokens: the longest row, special tokens included; longer ones are cut at their end.
        first: the field of the text, or of the first of two.
        second: the field of the second, or None.
        truncation: which of two texts gives tokens: the longer one at each, or always that one.
        label: the field of the label, or None.
        classes: names of the labels, in the order of their numbers; empty: labels are numbers.

    Raises:
        InputError: if `max_tokens` leaves no room for text.
    """

    tokenizer: FastTokenizer
    max_tokens: int
    first: str = "text"
    second: str | None = None
    truncation: Truncation = "longest_first"
    label: str | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if self.truncation not in _NAMES:
            raise InputError(
                f"truncation must be one of {', '.join(_NAMES)}. Received: {self.truncation!r}"
            )
        if self.truncation == "second" and self.second is None:
            raise InputError(
                "truncation 'second' needs a second text, and there is one text a row. "
                "Take 'longest_first'"
            )
        special = self.tokenizer.fast.num_special_tokens_to_add(self.second is not None)
        if self.max_tokens <= special:
            raise InputError(
                f"max_tokens {self.max_tokens} leaves no room for text beside {special} special "
                "tokens. Give more"
            )

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "text",
            "version": 1,
            "tokenizer": self.tokenizer.fingerprint,
            "max_tokens": self.max_tokens,
            "first": self.first,
            "second": self.second,
            "truncation": self.truncation,
            "label": self.label,
            "classes": list(self.classes),
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
        if self.second is not None:
            types = [encoding.type_ids for encoding in encodings]
            columns["token_type_ids"] = Ragged.of(types, np.dtype(np.uint8))
        if self.label is not None:
            columns["label"] = self._labels(examples, self.label)
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
        fast.enable_truncation(self.max_tokens, strategy=_NAMES[self.truncation])
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
            other = self.first if self.truncation == "second" else self.second
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

    def _labels(self, examples: Sequence[Mapping[str, Any]], field: str) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.classes)}
        dtype = np.int32 if self.classes else np.float32
        labels = np.empty(len(examples), dtype)
        for row, example in enumerate(examples):
            value = example.get(field)
            try:
                labels[row] = numbers[str(value)] if self.classes else float(value)  # type: ignore[arg-type]
            except (KeyError, TypeError, ValueError):
                known = f"one of {', '.join(self.classes)}" if self.classes else "a number"
                raise InputError(
                    f"the label {field!r} of an example must be {known}. Received: {value!r} in "
                    f"{shown(example)}"
                ) from None
        return labels


def _for_hugging_face(inputs: list[tuple[str, ...]]) -> list[Any]:
    """Hugging Face takes a pair as a tuple, and one text as it is."""
    return [row[0] if len(row) == 1 else row for row in inputs]
