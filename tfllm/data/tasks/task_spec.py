"""What every task of a list has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.task_batches import TaskEncoder
from tfllm.data.tasks.parts import Parts
from tfllm.errors import InputError

__all__ = ["TaskSpec"]


@dataclass(frozen=True)
class TaskSpec(ABC):
    """One of several tasks that a model learns at once: where its examples are, what they are.

    Attributes:
        name: of letters, digits, `_` and `-`.
        kind: as a list of tasks says it.
        train: paths and globs of one suffix, or one data set of TFDS; none: examples that tfllm
            brings.
        validation: the same; none: training examples are split by a hash.
        test: the same; may be none.
        weight: its share of the steps, where tasks are mixed by weights.
        freeze_backbone: whether it trains what is above the blocks alone, and they learn from
            other tasks.
        where: file and line that list it, for messages.
    """

    name: str
    kind: str
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    weight: float = 1.0
    freeze_backbone: bool = False
    where: str = ""

    def read(self, *, validation_fraction: float = 0.05, on_error: OnError = "refuse") -> Parts:
        """Open the examples.

        Args:
            validation_fraction: share of the examples that the hash deals to validation.
            on_error: whether an example that can't be read ends reading or is left out.

        Raises:
            InputError: if a file can't be found or read, or lacks a field.
        """
        with self.named_in_errors():
            return self._open(validation_fraction, on_error)

    def labels(self, parts: Parts) -> tuple[str, ...]:
        """Name the labels of the training examples, in the order of their numbers.

        Returns:
            the names; none where there are no labels.

        Raises:
            InputError: if there is nothing to tell apart, or another part has a label that the
                training examples lack; with file and line.
        """
        with self.named_in_errors():
            return self._labels(parts)

    def encoder(
        self, tokenizer: FastTokenizer, sequence_length: int, labels: tuple[str, ...]
    ) -> TaskEncoder:
        """Make what turns examples into rows.

        Args:
            tokenizer: of the model.
            sequence_length: tokens of the longest row.
            labels: see `labels`.

        Raises:
            InputError: if rows are too short for the task.
        """
        with self.named_in_errors():
            return self._encoder(tokenizer, sequence_length, labels)

    @abstractmethod
    def texts(self, examples: Reader) -> Iterator[str]:
        """Give all texts, for a vocabulary of their own."""

    @abstractmethod
    def instance(self, example: Mapping[str, Any]) -> Any:
        """Give the row of a request that asks a bundle about an example."""

    @abstractmethod
    def truth(self, example: Mapping[str, Any]) -> str:
        """Say what is right for an example, in words."""

    @abstractmethod
    def _open(self, validation_fraction: float, on_error: OnError) -> Parts: ...

    @abstractmethod
    def _labels(self, parts: Parts) -> tuple[str, ...]: ...

    @abstractmethod
    def _encoder(
        self, tokenizer: FastTokenizer, sequence_length: int, labels: tuple[str, ...]
    ) -> TaskEncoder: ...

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Have errors of a block begin with the task's place and name."""
        try:
            yield
        except InputError as error:
            place = f"{self.where} " if self.where else ""
            # Parts of the data are keys here, and flags where there is one task.
            message = str(error).removeprefix("--")
            raise InputError(f"{place}the task {self.name!r}: {message}") from error
