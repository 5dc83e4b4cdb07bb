"""What is printed and drawn of a masked language model after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfllm.training.epoch_report import EpochReport
from tfllm.training.mean_objectives import MeanObjectives
from tfllm.training.step import SummedLossModel

__all__ = ["MaskedLanguageModelReport"]

_Sample = tuple[str, str]
_MOST_NATS = 700.0  # above it, a perplexity is no number of JSON


class MaskedLanguageModelReport(EpochReport):
    """Measures each objective on a validation set, and shows how the model fills one text.

    Under several workers the chief does all of it, and the others report nothing.
    """

    def __init__(
        self,
        model: SummedLossModel,
        validation: Any,
        sample: Callable[[], _Sample],
        folder: Path,
        *,
        measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        Args:
            model: what is trained; it has `masked_lm` among its `objectives`.
            validation: `tfllm.data.MaskedRows` or `MaskedPairs` without a seed: each time the same
                masks.
            sample: gives a text with masks, and the same as the model fills it.
            folder: a run's `tensorboard`.
            measured_within: see `EpochReport`.
        """
        super().__init__(model, validation, folder, measured_within)
        self._objectives = MeanObjectives(model, validation)
        self._make_sample = sample

    def _measured(self) -> tuple[dict[str, float], _Sample]:
        results = self._objectives.measure()
        results["masked_perplexity"] = math.exp(min(_MOST_NATS, results["masked_lm_loss"]))
        return results, self._make_sample()

    def _sample(self, outputs: _Sample) -> str:
        return " ▸ ".join(" ".join(text.split()) for text in outputs)

    def _summarize(self, outputs: _Sample) -> None:
        masked, filled = outputs
        tf.summary.text("sample", f"```\n{masked}\n\n{filled}\n```")
