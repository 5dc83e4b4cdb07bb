"""One of several tasks: questions with their contexts and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tfllm.data.encoders import QuestionEncoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.tasks.parts import Parts
from tfllm.data.tasks.questions import read_questions
from tfllm.data.tasks.task_spec import TaskSpec

__all__ = ["AnswerSpec"]


@dataclass(frozen=True)
class AnswerSpec(TaskSpec):
    """Questions with answers; see `read_questions`.

    Attributes:
        kind: `answers`.
        max_question_tokens: longer questions are cut.
        max_answer_tokens: no longer answer is given.
        overlap: tokens of the context that a window shares with the one before; None for a quarter
            of the window.
    """

    kind: Literal["answers"] = "answers"
    max_question_tokens: int = 64
    max_answer_tokens: int = 30
    overlap: int | None = None

    def overlap_of(self, sequence_length: int) -> int:
        """Tokens that windows of a length share."""
        return sequence_length // 4 if self.overlap is None else self.overlap

    def texts(self, examples: Reader) -> Iterator[str]:
        """Give questions and contexts."""
        for example in examples:
            yield example["question"]
            yield example["context"]

    def instance(self, example: Mapping[str, Any]) -> dict[str, str]:
        """Give question and context."""
        return {name: example[name] for name in ("question", "context")}

    def truth(self, example: Mapping[str, Any]) -> str:
        """Say the answers."""
        return " | ".join(example["answers"]) or "(none)"

    def _open(self, validation_fraction: float, on_error: OnError) -> Parts:
        return read_questions(
            self.train,
            self.validation,
            self.test,
            validation_fraction=validation_fraction,
            on_error=on_error,
        )

    def _labels(self, parts: Parts) -> tuple[str, ...]:
        return ()

    def _encoder(
        self, tokenizer: FastTokenizer, sequence_length: int, labels: tuple[str, ...]
    ) -> QuestionEncoder:
        return QuestionEncoder(
            tokenizer,
            sequence_length,
            overlap=self.overlap_of(sequence_length),
            max_question_tokens=self.max_question_tokens,
        )
