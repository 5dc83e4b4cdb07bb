"""What is printed and drawn of a language model after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from tfllm.training.workers import Workers

__all__ = ["LanguageModelReport"]


class LanguageModelReport:
    """Evaluates a model, prints the result and one sample, and writes both to TensorBoard."""

    def __init__(
        self,
        model: keras.Model,
        validation: tf.data.Dataset,
        measure: Callable[[float], dict[str, float]],
        sample: Callable[[], tuple[str, str]],
        folder: Path,
        *,
        measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        Args:
            model: compiled; its `evaluate` gives `loss`, nats per target.
            validation: batches that visit every target once.
            measure: loss → numbers by name, such as perplexity.
            sample: gives a prompt and how the model goes on from it.
            folder: a run's `tensorboard`.
            measured_within: gives a context to measure in, such as one that puts the average of
                the weights in place.
        """
        self._measured_within = measured_within
        self._model = model
        self._validation = validation
        self._measure = measure
        self._sample = sample
        # The folder's name is the curve's name in TensorBoard.
        self._writer = (
            tf.summary.create_file_writer(str(folder / "validation"))
            if Workers(model.distribute_strategy).is_chief
            else tf.summary.create_noop_writer()
        )

    def __call__(self, epoch: int, step: int) -> dict[str, float]:
        """Report on the weights as they are after an epoch.

        Args:
            epoch: counts from 1.
            step: optimizer steps taken.

        Returns:
            what was measured, by name.
        """
        with self._measured_within():
            scores = self._model.evaluate(self._validation, verbose=0, return_dict=True)
            prompt, text = self._sample()
        results = self._measure(float(scores["loss"]))
        facts = ", ".join(f"{name.replace('_', ' ')} {v:.3f}" for name, v in results.items())
        tqdm.write(f"Epoch {epoch}, step {step}: validation {facts}")
        tqdm.write(f"    sample: {_shortened(prompt)} ▸ {_one_line(text)}")
        with self._writer.as_default(step=step):
            for name, value in results.items():
                tf.summary.scalar(name, value)
            tf.summary.text("sample", f"**{_one_line(prompt)}**\n\n```\n{text}\n```")
        self._writer.flush()
        return results


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str, characters: int = 60) -> str:
    line = _one_line(text)
    return line if len(line) <= characters else "…" + line[-characters:]
