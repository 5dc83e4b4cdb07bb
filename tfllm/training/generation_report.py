"""What is printed, drawn and written of a generator of texts after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.training.epoch_report import EpochReport
from tfllm.training.mean_loss import MeanLoss
from tfllm.training.prompt_batches import generate_texts
from tfllm.training.sample_table import sample_table
from tfllm.training.step import SummedLossModel
from tfllm.training.write_predictions import write_predictions

__all__ = ["GenerationReport"]

_Reference = str | Sequence[str]
_SHOWN_CHARACTERS = 60


class Measure(Protocol):
    """Measures generated texts, such as `tfllm.metrics.generation` with its names filled in."""

    def __call__(
        self, predictions: Sequence[str], references: Any, /, *, loss: float
    ) -> Mapping[str, float]:
        """Return numbers by name, of texts in the same order and the validation's loss."""
        ...


class GenerationReport(EpochReport):
    """Measures the loss on a validation set, continues its prompts, and shows what came out.

    Under several workers the chief does all of it, and the others report nothing.
    """

    def __init__(
        self,
        model: SummedLossModel,
        validation: Any,
        generate: Callable[[list[str]], Sequence[str]],
        measure: Measure,
        folder: Path,
        *,
        prompts: Sequence[str],
        references: Sequence[_Reference],
        at_most: int | None = None,
        batch_size: int = 32,
        shown: int = 8,
        predictions_path: Path | None = None,
        measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        Args:
            model: what is trained.
            validation: `tfllm.data.StepBatches` whose pass visits every target once.
            generate: prompts → as many continuations. It must give a prompt the same whatever
                prompts are beside it, and every time: greedy, or with a seed.
            measure: see `Measure`. Numbers with a slash in their names are details: drawn, not
                printed.
            folder: a run's `tensorboard`.
            prompts: of the validation examples.
            references: what should follow each; a text, or several of which each is right.
            at_most: continue only so many prompts, evenly spread; None for all.
            batch_size: prompts that are continued together; those of like length are.
            shown: how many of them TensorBoard shows beside their references, evenly spread.
            predictions_path: the file that all of them are written to, replaced each time.
            measured_within: gives a context to measure in, such as one that puts the average of
                the weights in place.

        Raises:
            InputError: if there is no prompt, or not one reference for each.
        """
        if not prompts or len(prompts) != len(references):
            raise InputError(
                "prompts and references must be equally many, and at least one. Received: "
                f"{len(prompts)} and {len(references)}"
            )
        chosen = _spread(len(prompts), at_most)
        super().__init__(model, validation, folder, measured_within)
        self._loss = MeanLoss(model, validation)
        self._generate = generate
        self._measure = measure
        self._prompts = [prompts[i] for i in chosen]
        self._references = [references[i] for i in chosen]
        self._batch_size = batch_size
        self._shown = shown
        self._path = predictions_path

    def _measured(self) -> tuple[dict[str, float], list[str]]:
        loss = self._loss.measure()
        texts = generate_texts(self._generate, self._prompts, batch_size=self._batch_size)
        results = {"loss": loss, **self._measure(texts, self._references, loss=loss)}
        if self._path is not None:
            write_predictions(self._path, self._lines(texts))
        return results, texts

    def _lines(self, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
        for prompt, reference, text in zip(self._prompts, self._references, texts, strict=True):
            yield {"prompt": prompt, "reference": reference, "predicted": text}

    def _summarize(self, outputs: Sequence[str]) -> None:
        rows = [
            [self._prompts[i], _joined(self._references[i]), outputs[i]]
            for i in _spread(len(outputs), self._shown)
        ]
        tf.summary.text("samples", sample_table(["prompt", "reference", "generated"], rows))

    def _sample(self, outputs: Sequence[str]) -> str:
        return f"{_shortened(self._prompts[0])} ▸ {_one_line(outputs[0])}"


def _spread(count: int, most: int | None) -> list[int]:
    """Choose places among `count`, evenly spread, the first one always among them."""
    if most is None or most >= count:
        return list(range(count))
    return [i * count // most for i in range(most)]


def _joined(reference: _Reference) -> str:
    return reference if isinstance(reference, str) else "\n".join(reference)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= _SHOWN_CHARACTERS else "…" + line[-_SHOWN_CHARACTERS:]
