"""Training a language model and reporting on it after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tfllm.training.best_metric import BestMetric
from tfllm.training.folder import train_in_folder
from tfllm.training.language_model_report import LanguageModelReport
from tfllm.training.loop import Trained
from tfllm.training.step import SummedLossModel

__all__ = ["train_language_model"]


def train_language_model(
    model: SummedLossModel,
    train_blocks: Any,
    validation_blocks: Any,
    *,
    run_dir: Path,
    total_steps: int,
    measure: Callable[[float], dict[str, float]],
    sample: Callable[[], tuple[str, str]],
    best_metric: BestMetric | None = None,
    patience: int | None = None,
    keep: int = 2,
    checkpoint_minutes: float = 5.0,
    checkpoint_steps: int | None = None,
    measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    profiled_steps: tuple[int, int] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Trained:
    """Train on blocks of tokens; each epoch is scored, sampled from, printed and drawn.

    Afterwards the model has the weights of the epoch that was best on validation.

    Args:
        model: compiled.
        train_blocks: `tfllm.data.TokenBlocks`, shuffled.
        validation_blocks: `tfllm.data.TokenBlocks` in their own order.
        run_dir: checkpoints and TensorBoard's files go below it.
        total_steps: optimizer steps at the end.
        measure: validation loss → what is reported, by name.
        sample: gives a prompt and how the model goes on from it.
        best_metric: which of `measure`'s names says what is better; None for the loss.
        patience: epochs without a better one after which training ends.
        keep: newest checkpoints to keep, besides the best.
        checkpoint_minutes: between checkpoints within an epoch.
        checkpoint_steps: optimizer steps between them as well; None for minutes alone.
        measured_within: gives a context to measure in, such as the average of the weights.
        profiled_steps: first and last step that TensorFlow's profiler records, counted from 1.
        hyperparameters: name → value, for TensorBoard's table of runs.

    Raises:
        InputError: see `train_in_folder`.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    plan = train_blocks.plan
    report = LanguageModelReport(
        model,
        validation_blocks.dataset(),
        measure,
        sample,
        run_dir / "tensorboard",
        measured_within=measured_within,
    )
    return train_in_folder(
        model,
        train_blocks.dataset,
        report,
        run_dir=run_dir,
        total_steps=total_steps,
        steps_per_epoch=train_blocks.steps_per_epoch,
        tokens_per_step=plan.global_batch_size * plan.sequence_length,
        sequence_length=plan.sequence_length,
        identity={
            "training text": train_blocks.store.manifest.source,
            "validation text": validation_blocks.store.manifest.source,
            "tokenizer": train_blocks.store.manifest.tokenizer,
        },
        rows_of=plan.block_starts,
        best_metric=best_metric,
        patience=patience,
        keep=keep,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        profiled_steps=profiled_steps,
        hyperparameters=hyperparameters,
    )
