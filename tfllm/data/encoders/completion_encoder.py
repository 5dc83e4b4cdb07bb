"""Prompts with completions, and dialogues, as rows of a causal language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import shown
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.templates.example_template import ExampleTemplate
from tfllm.data.templates.piece import Piece
from tfllm.errors import InputError

__all__ = ["CompletionEncoder", "TooLong"]

TooLong = Literal["left", "skip", "refuse"]
_COUNTS = (
    "completion_bytes",
    "completion_tokens",
    "prompts_cut",
    "prompt_tokens_cut",
    "completions_cut",
    "examples_left_out",
)


@dataclass(frozen=True)
class CompletionEncoder:
    """Examples as ids, with weights that are 1 where a completion or its end is predicted.

    Each piece of a template is tokenized by itself and the ids are joined, as who fine-tunes with
    transformers joins `tokenizer(prompt)["input_ids"] + tokenizer(completion)["input_ids"]`. No
    special token is added but the end token to be predicted after each completion, and the start
    token where nothing else stands before one.

    Columns, ragged, of one length in each row: `input_ids` and `targets`, `uint16` or `uint32`,
    and `weights`, `uint8`. Counts: `completion_tokens`, the ends included, and `completion_bytes`
    of what is learnt; `prompts_cut` and `prompt_tokens_cut`; `completions_cut`, those of a
    dialogue's turns that a cut touches, which are then no more learnt; and `examples_left_out`,
    because they are too long or nothing of them is learnt. No completion is ever learnt in part.

    Attributes:
        tokenizer: with an end token.
        template: of the examples.
        max_tokens: the longest row.
        too_long: `left`: a longer row loses its beginning, and is left out if that does not leave
            one whole completion and a token before it; `skip`: it is left out; `refuse`.

    Raises:
        InputError: if the tokenizer has no end token, or a setting is none.
    """

    tokenizer: FastTokenizer
    template: ExampleTemplate
    max_tokens: int
    too_long: TooLong = "left"

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if self.tokenizer.eos_id is None:
            raise InputError(
                "the tokenizer has no end-of-text token, and completions must end. Name one as "
                "eos_token in the folder's special_tokens_map.json"
            )
        if self.too_long not in get_args(TooLong):
            raise InputError(
                f"too_long must be one of {', '.join(get_args(TooLong))}. Received: "
                f"{self.too_long!r}"
            )
        if self.max_tokens < 2:
            raise InputError(f"max_tokens must be at least 2. Received: {self.max_tokens}")

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes."""
        return ("input_ids",)

    @property
    def end_id(self) -> int:
        """Ends completions."""
        assert self.tokenizer.eos_id is not None
        return self.tokenizer.eos_id

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "completions",
            "version": 1,
            "tokenizer": self.tokenizer.fingerprint,
            "end_id": self.end_id,
            "start_id": self.tokenizer.bos_id,
            "template": self.template.to_config(),
            "max_tokens": self.max_tokens,
            "too_long": self.too_long,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode examples.

        Example:
            prompt "a b", completion "c d", end 0 → input_ids a b c d, targets b c d 0, weights
            0 1 1 1.
        """
        cut = [self.template.pieces(example) for example in examples]
        encoded = iter(self._tokenize([piece.text for pieces in cut for piece in pieces], examples))
        counts = Counter(dict.fromkeys(_COUNTS, 0))
        rows = []
        for example, pieces in zip(examples, cut, strict=True):
            row = self._row(example, pieces, [next(encoded) for _ in pieces], counts)
            if row is not None:
                rows.append(row)
        narrow = np.dtype(np.uint8)
        columns: dict[str, np.ndarray | Ragged] = {
            "input_ids": Ragged.of([row.input_ids for row in rows], self.tokenizer.dtype),
            "targets": Ragged.of([row.targets for row in rows], self.tokenizer.dtype),
            "weights": Ragged.of([row.weights for row in rows], narrow),
        }
        return Encoded(columns, dict(counts))

    def _tokenize(self, texts: list[str], examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            bad = next(e for e in examples if not _is_unicode(self.template.pieces(e)))
            raise InputError(
                f"an example is no Unicode text: it holds half a surrogate pair: {shown(bad)}. "
                "Mend or drop it"
            ) from None
        encodings = self.tokenizer.fast.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _row(
        self,
        example: Mapping[str, Any],
        pieces: list[Piece],
        ids: list[list[int]],
        counts: Counter[str],
    ) -> _Row | None:
        row = self._join(example, pieces, ids)
        cut = len(row.input_ids) - self.max_tokens
        if cut > 0 and self.too_long == "refuse":
            raise InputError(
                f"an example has {len(row.input_ids)} tokens, and a row {self.max_tokens}: "
                f"{shown(example)}. Give longer rows (--sequence_length), or let it be cut or left "
                "out (--too_long left, --too_long skip)"
            )
        whole = [span for span in row.completions if span.start >= max(cut, 0)]
        if not whole or cut > 0 and self.too_long == "skip":
            counts["examples_left_out"] += 1
            return None
        texts = [piece.text for piece in pieces if piece.learnt][-len(whole) :]
        counts["completion_bytes"] += sum(len(text.encode()) for text in texts)
        counts["completion_tokens"] += sum(map(len, whole))
        if cut > 0:
            counts["prompts_cut"] += 1
            counts["prompt_tokens_cut"] += cut
            counts["completions_cut"] += len(row.completions) - len(whole)
        return row.without(max(cut, 0), whole)

    def _join(
        self, example: Mapping[str, Any], pieces: list[Piece], ids: list[list[int]]
    ) -> _Joined:
        input_ids: list[int] = []
        spans = []
        for piece, part in zip(pieces, ids, strict=True):
            if piece.learnt:
                input_ids = input_ids or [self._start_id(example)]
                spans.append(range(len(input_ids) - 1, len(input_ids) + len(part)))
            input_ids += part
        last = spans[-1].stop if spans else 0
        input_ids = input_ids[:last]  # what is read after the last completion teaches nothing
        targets = [*input_ids[1:], self.end_id]
        for span in spans:
            targets[span.stop - 1] = self.end_id
        return _Joined(input_ids, targets, spans)

    def _start_id(self, example: Mapping[str, Any]) -> int:
        if self.tokenizer.bos_id is None:
            raise InputError(
                f"an example has nothing before its completion: {shown(example)}, and the "
                "tokenizer no start token to put there. Give a prompt, or a tokenizer with a "
                "bos_token"
            )
        return self.tokenizer.bos_id


class _Row(NamedTuple):
    input_ids: list[int]
    targets: list[int]
    weights: list[int]


class _Joined(NamedTuple):
    """A row before it is cut.

    Attributes:
        input_ids: all that is read.
        targets: what follows each.
        completions: positions from which a completion and its end are predicted.
    """

    input_ids: list[int]
    targets: list[int]
    completions: list[range]

    def without(self, cut: int, learnt: list[range]) -> _Row:
        """Drop the first positions; learn some completions."""
        weights = [0] * len(self.input_ids)
        for span in learnt:
            weights[span.start : span.stop] = [1] * len(span)
        return _Row(self.input_ids[cut:], self.targets[cut:], weights[cut:])


def _is_unicode(pieces: list[Piece]) -> bool:
    try:
        "".join(piece.text for piece in pieces).encode()
    except UnicodeEncodeError:
        return False
    return True
