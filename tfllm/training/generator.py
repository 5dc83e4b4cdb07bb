"""Training a generator of texts and reporting on what it writes after each epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfllm.training.best_metric import BestMetric
from tfllm.training.folder import train_in_folder
from tfllm.training.generation_report import GenerationReport
from tfllm.training.loop import Trained
from tfllm.training.step import SummedLossModel

__all__ = ["train_generator"]


def train_generator(
    model: SummedLossModel,
    train_batches: Any,
    report: GenerationReport,
    *,
    run_dir: Path,
    total_steps: int,
    best_metric: BestMetric | None = None,
    patience: int | None = None,
    keep: int = 2,
    checkpoint_minutes: float = 5.0,
    checkpoint_steps: int | None = None,
    profiled_steps: tuple[int, int] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Trained:
    """Train on packed examples; each epoch is validated, sampled from and drawn by `report`.

    Afterwards the model has the weights of the epoch that was best on validation, and the report's
    file of predictions is of those weights.

    Args:
        model: compiled.
        train_batches: `tfllm.data.PackedRows`, shuffled.
        report: of the validation examples.
        run_dir: checkpoints and TensorBoard's files go below it.
        total_steps: optimizer steps at the end.
        best_metric: which of the report's numbers says what is better; None for the loss.
        patience: epochs without a better one after which training ends.
        keep: newest checkpoints to keep, besides the best.
        checkpoint_minutes: between checkpoints within an epoch.
        checkpoint_steps: optimizer steps between them as well.
        profiled_steps: first and last step that TensorFlow's profiler records, counted from 1.
        hyperparameters: name → value, for TensorBoard's table of runs.

    Raises:
        InputError: see `train_in_folder`.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    plan, manifest = train_batches.plan, train_batches.store.manifest
    trained = train_in_folder(
        model,
        train_batches.dataset,
        report,
        run_dir=run_dir,
        total_steps=total_steps,
        steps_per_epoch=train_batches.steps_per_epoch,
        tokens_per_step=plan.global_batch_size * plan.sequence_length,
        sequence_length=plan.sequence_length,
        identity={
            "training data": manifest.source,
            "validation data": report.source,
            # Vocabulary, template and lengths.
            "encoding": json.dumps(manifest.encoder, sort_keys=True),
        },
        rows_of=lambda step: plan.rows(step).rows,
        best_metric=best_metric,
        patience=patience,
        keep=keep,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        profiled_steps=profiled_steps,
        hyperparameters=hyperparameters,
    )
    if report.newest != trained.best:  # else the last epoch was the best
        report.evaluate()
    return trained
