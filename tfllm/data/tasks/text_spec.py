"""One of several tasks: texts, or pairs of texts, with labels or numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfllm.data.encoders import TextEncoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.tasks.labels import check_labels, label_names
from tfllm.data.tasks.parts import Parts
from tfllm.data.tasks.task_spec import TaskSpec
from tfllm.data.tasks.texts import LabelKind, read_examples, text_fields

__all__ = ["TextSpec"]


@dataclass(frozen=True)
class TextSpec(TaskSpec):
    """Texts with labels; see `read_examples`.

    Attributes:
        kind: `single_label`, `multi_label` or `regression`.
        text: column, key or feature of the text.
        text_pair: of a second text, or None.
        label: of the label.
        columns: names of a table's columns; none: the first row of each file holds them.
    """

    kind: LabelKind = "single_label"
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    columns: tuple[str, ...] = ()

    def texts(self, examples: Reader) -> Iterator[str]:
        """Give the texts, the second ones too."""
        for example in examples:
            yield example["text"]
            if "text_pair" in example:
                yield example["text_pair"]

    def instance(self, example: Mapping[str, Any]) -> Any:
        """Give the text, or both by their names."""
        if self.text_pair is None:
            return example["text"]
        return {name: example[name] for name in ("text", "text_pair")}

    def truth(self, example: Mapping[str, Any]) -> str:
        """Say the label."""
        return str(example["label"])

    def _open(self, validation_fraction: float, on_error: OnError) -> Parts:
        return read_examples(
            self.train,
            self.validation,
            self.test,
            fields=text_fields(
                text=self.text, text_pair=self.text_pair, label=self.label, kind=self.kind
            ),
            columns=self.columns,
            validation_fraction=validation_fraction,
            on_error=on_error,
        )

    def _labels(self, parts: Parts) -> tuple[str, ...]:
        if self.kind == "regression":
            return ()
        labels = label_names(parts.train)
        for part, examples in parts.named()[1:]:
            check_labels(examples, labels, part=part)
        return labels

    def _encoder(
        self, tokenizer: FastTokenizer, sequence_length: int, labels: tuple[str, ...]
    ) -> TextEncoder:
        return TextEncoder(
            tokenizer,
            sequence_length,
            second=None if self.text_pair is None else "text_pair",
            label="label",
            labels=labels,
            multi_label=self.kind == "multi_label",
        )
