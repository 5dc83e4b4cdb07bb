"""Questions and the contexts that hold their answers, as a backbone's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tfllm.data.encoders.encoder import Encoded
from tfllm.data.encoders.fields import shown, texts_of, words_of
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.errors import InputError

__all__ = ["QuestionEncoder"]


@dataclass(frozen=True)
class QuestionEncoder:
    """A question with its context, cut into overlapping windows where it is too long.

    Rows are those of Hugging Face's fast tokenizer with `truncation="only_second"`, `max_length`,
    `stride` (the overlap) and `return_overflowing_tokens`, but for questions above
    `max_question_tokens`, which are cut at their end.

    Columns: `input_ids`, ragged, `uint16` or `uint32`; `token_type_ids`, ragged `uint8`;
    `context_mask`, ragged `uint8`, 1 on tokens of the context; `starts` and `ends`, ragged
    `uint32`: of each token of the context the first character and the one after the last,
    counted in the whole context, 0 on other tokens; `window`, `<int32>[rows]`: the row's number
    among its question's, from 0; `spans`, `<int32>[rows, 2]`: the first and the last token of the
    first answer in the row, or 0 and 0 where the row does not hold all of it. Counts:
    `text_bytes`, `questions_cut`, `contexts_cut`, `answers_lost` (of which no token is left).

    Attributes:
        tokenizer: its own template adds the special tokens.
        max_tokens: the longest row, special tokens included.
        overlap: tokens of the context that a window shares with the one before; BERT's recipe
            calls it doc_stride, Hugging Face stride.
        max_question_tokens: where longer questions are cut.
        question: the field of the question.
        context: the field of the context.
        answers: the field of the answers' texts, a list; None: no `spans`.
        answer_starts: the field of their first characters in the context.

    Raises:
        InputError: if the longest question leaves a window no room for more than the overlap.

    Reference:
        Devlin et al., BERT, 2018 (1810.04805), section 4.2; its code's windows.
    """

    tokenizer: FastTokenizer
    max_tokens: int = 384
    overlap: int = 128
    max_question_tokens: int = 64
    question: str = "question"
    context: str = "context"
    answers: str | None = "answers"
    answer_starts: str = "answer_starts"

    def __post_init__(self) -> None:
        """Check the sizes."""
        room = self.max_tokens - self._template.added - self.max_question_tokens
        if self.max_question_tokens < 1 or self.overlap < 0 or room <= self.overlap:
            raise InputError(
                f"max_tokens {self.max_tokens} leaves {room} tokens of context beside a question "
                f"of {self.max_question_tokens} tokens and special tokens; it must be more than "
                f"the overlap {self.overlap}. Give more tokens, or a smaller overlap"
            )

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes; `starts` and `ends` only cut answers out."""
        return ("input_ids", "token_type_ids", "context_mask")

    @property
    def target_column(self) -> str | None:
        """The column to predict, if there is one."""
        return "spans" if self.answers is not None else None

    @property
    def weight_column(self) -> str | None:
        """All windows count alike."""
        return None

    def identity(self) -> dict[str, Any]:
        """What decides the arrays."""
        return {
            "encoder": "questions",
            "version": 1,
            "tokenizer": self.tokenizer.fingerprint,
            "max_tokens": self.max_tokens,
            "overlap": self.overlap,
            "max_question_tokens": self.max_question_tokens,
            "question": self.question,
            "context": self.context,
            "answers": self.answers,
            "answer_starts": self.answer_starts,
        }

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode questions.

        Example:
            "Who ?" about "Kim sings .", answer "Kim" → [CLS] who ? [SEP] kim sings . [SEP],
            context mask 0 0 0 0 1 1 1 0, span 4 4.
        """
        questions, contexts = (texts_of(examples, f) for f in (self.question, self.context))
        answers = [self._answer(*pair) for pair in zip(examples, contexts, strict=True)]
        question_ids = self._question_ids(questions)
        tokens = self._context_tokens(contexts)
        rows = _Rows(self._template, self.tokenizer.dtype)
        counts = {
            "text_bytes": sum(len(text.encode()) for text in (*questions, *contexts)),
            "questions_cut": 0,
            "contexts_cut": 0,
            "answers_lost": 0,
        }
        for question, context, answer in zip(questions, contexts, answers, strict=True):
            ids = question_ids[question]
            asked, found = ids[: self.max_question_tokens], tokens[context]
            span = None if answer is None else _span(found, *answer)
            windows = self._windows(len(asked), len(found.ids))
            for number, window in enumerate(windows):
                rows.add(number, asked, found, window, span)
            counts["questions_cut"] += len(asked) < len(ids)
            counts["contexts_cut"] += len(windows) > 1
            counts["answers_lost"] += answer is not None and span is None
        columns = rows.columns()
        if self.answers is None:
            del columns["spans"]
        return Encoded(columns, counts)

    @cached_property
    def _template(self) -> RowTemplate:
        return RowTemplate.of(self.tokenizer.fast, pair=True)

    def _windows(self, question: int, context: int) -> list[tuple[int, int]]:
        """First token of each window of the context, and the one after its last."""
        room = self.max_tokens - self._template.added - question
        last = max(0, context - room)
        starts = range(0, last + room - self.overlap, room - self.overlap)
        return [(start, min(start + room, context)) for start in starts]

    def _question_ids(self, questions: list[str]) -> dict[str, list[int]]:
        each = sorted(set(questions))
        encodings = self.tokenizer.fast.encode_batch_fast(each, add_special_tokens=False)
        return {text: found.ids for text, found in zip(each, encodings, strict=True)}

    def _context_tokens(self, contexts: list[str]) -> dict[str, _Tokens]:
        """Contexts stand under several questions: each is encoded once."""
        each = sorted(set(contexts))
        encodings = self.tokenizer.fast.encode_batch(each, add_special_tokens=False)
        tokens = {}
        for text, found in zip(each, encodings, strict=True):
            places = np.array(found.offsets, np.uint32).reshape(-1, 2)
            tokens[text] = _Tokens(np.array(found.ids, np.uint32), places[:, 0], places[:, 1])
        return tokens

    def _answer(self, example: Mapping[str, Any], context: str) -> tuple[int, int] | None:
        """First character of the first answer, and the one after its last."""
        if self.answers is None:
            return None
        texts = words_of(example, self.answers)
        if not texts:
            return None
        starts = example.get(self.answer_starts)
        start = starts[0] if isinstance(starts, list | tuple) and starts else None
        if not isinstance(start, int) or not texts[0] or start < 0:
            raise InputError(
                f"an example's first answer has no text or no place in {self.answer_starts!r}: "
                f"{shown(example)}. Received: {texts[0]!r} at {start!r}"
            )
        end = start + len(texts[0])
        if context[start:end] != texts[0]:
            raise InputError(
                f"an example has the answer {texts[0]!r} at {start}, where its context has "
                f"{context[start:end]!r}: {shown(example)}. Mend the answer's place"
            )
        return start, end


class _Tokens(NamedTuple):
    """Tokens of a context: `<uint32>[tokens]` each."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def _span(tokens: _Tokens, start: int, end: int) -> tuple[int, int] | None:
    """First and last of the tokens that share a character with an answer; None if none does."""
    inside = np.flatnonzero((tokens.ends > start) & (tokens.starts < end))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


class _Rows:
    """Rows, as they grow."""

    def __init__(self, template: RowTemplate, dtype: np.dtype[Any]) -> None:
        self._template = template
        self._dtype = dtype
        self._rows: list[tuple[int, list[int], _Tokens, int]] = []
        self._lengths: list[int] = []
        self._windows: list[int] = []
        self._spans: list[tuple[int, int]] = []

    def add(
        self,
        number: int,
        question: list[int],
        context: _Tokens,
        window: tuple[int, int],
        span: tuple[int, int] | None,
    ) -> None:
        first, end = window
        place = self._template.start(len(question))
        part = _Tokens(*(values[first:end] for values in context))
        self._rows.append((place, question, part, end - first))
        self._lengths.append(self._template.added + len(question) + end - first)
        self._windows.append(number)
        inside = span is not None and first <= span[0] and span[1] < end
        shift = place - first
        self._spans.append((span[0] + shift, span[1] + shift) if inside and span else (0, 0))

    def columns(self) -> dict[str, np.ndarray | Ragged]:
        lengths = np.array(self._lengths, np.int64)
        total = int(lengths.sum())
        ids = np.empty(total, self._dtype)
        types, mask = np.empty(total, np.uint8), np.zeros(total, np.uint8)
        starts, ends = np.zeros(total, np.uint32), np.zeros(total, np.uint32)
        row = 0
        for (place, question, part, size), length in zip(self._rows, self._lengths, strict=True):
            ids[row : row + length] = self._template.ids(question, part.ids.tolist())
            types[row : row + length] = self._template.token_types(len(question), size)
            context = slice(row + place, row + place + size)
            mask[context], starts[context], ends[context] = 1, part.starts, part.ends
            row += length
        return {
            "input_ids": Ragged(ids, lengths),
            "token_type_ids": Ragged(types, lengths),
            "context_mask": Ragged(mask, lengths),
            "starts": Ragged(starts, lengths),
            "ends": Ragged(ends, lengths),
            "window": np.array(self._windows, np.int32),
            "spans": np.array(self._spans, np.int32).reshape(-1, 2),
        }
