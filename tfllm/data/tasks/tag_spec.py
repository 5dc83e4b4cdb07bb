"""One of several tasks: words with tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tfllm.data.encoders import TagEncoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.readers.iob2 import TagScheme
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.tasks.labels import check_labels, tag_names
from tfllm.data.tasks.parts import Parts
from tfllm.data.tasks.tagged_words import read_tagged_words
from tfllm.data.tasks.task_spec import TaskSpec

__all__ = ["TagSpec"]


@dataclass(frozen=True)
class TagSpec(TaskSpec):
    """Words with tags; see `read_tagged_words`.

    Attributes:
        kind: `entities`: tags mark spans; `tags`: each stands for its word.
        scheme: how tags mark spans in the data.
        crf: whether a tag depends on the tags beside it.
        tokens: key, column or feature of the words.
        tags: of their tags.
        token_column: of CoNLL columns, from 0.
        tag_column: the same; -1 is the last.
        positions_in_tokens: whether words end in their place within a longer one.
        overlap: tokens that a window of a long document shares with the one before; None for a
            quarter of it.
    """

    kind: Literal["entities", "tags"] = "entities"
    scheme: TagScheme = "iob2"
    crf: bool = False
    tokens: str = "tokens"
    tags: str = "tags"
    token_column: int = 0
    tag_column: int = -1
    positions_in_tokens: bool = False
    overlap: int | None = None

    @property
    def spans(self) -> bool:
        """Whether tags mark spans."""
        return self.kind == "entities"

    def overlap_of(self, sequence_length: int) -> int:
        """Tokens that windows of a length share."""
        return sequence_length // 4 if self.overlap is None else self.overlap

    def texts(self, examples: Reader) -> Iterator[str]:
        """Give the sentences."""
        for example in examples:
            yield " ".join(example["tokens"])

    def instance(self, example: Mapping[str, Any]) -> str:
        """Give the sentence."""
        return " ".join(example["tokens"])

    def truth(self, example: Mapping[str, Any]) -> str:
        """Say the tags."""
        return " ".join(example["tags"])

    def _open(self, validation_fraction: float, on_error: OnError) -> Parts:
        return read_tagged_words(
            self.train,
            self.validation,
            self.test,
            scheme=self.scheme if self.spans else None,
            token_column=self.token_column,
            tag_column=self.tag_column,
            positions_in_tokens=self.positions_in_tokens,
            tokens=self.tokens,
            tags=self.tags,
            validation_fraction=validation_fraction,
            on_error=on_error,
        )

    def _labels(self, parts: Parts) -> tuple[str, ...]:
        labels = tag_names(parts.train, spans=self.spans)
        for part, examples in parts.named()[1:]:
            check_labels(examples, labels, field="tags", part=part)
        return labels

    def _encoder(
        self, tokenizer: FastTokenizer, sequence_length: int, labels: tuple[str, ...]
    ) -> TagEncoder:
        overlap = self.overlap_of(sequence_length)
        return TagEncoder(tokenizer, sequence_length, labels=labels, overlap=overlap)
