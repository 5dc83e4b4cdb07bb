"""Training a model on rows of a store, with a report after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfllm.training.best_metric import BestMetric
from tfllm.training.epoch_report import EpochReport
from tfllm.training.folder import train_in_folder
from tfllm.training.loop import Trained
from tfllm.training.step import SummedLossModel

__all__ = ["train_task"]


def train_task(
    model: SummedLossModel,
    train_rows: Any,
    report: EpochReport,
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
    identity: Mapping[str, str] | None = None,
) -> Trained:
    """Train on rows; each epoch is validated, printed and drawn by `report`.

    Afterwards the model has the weights of the epoch that was best on validation, and the report's
    file of predictions is of those weights.

    Args:
        model: compiled.
        train_rows: `tfllm.data.RowBatches`, `PackedRows` or `MultiTaskBatches`, shuffled.
        report: of the validation rows.
        run_dir: checkpoints and TensorBoard's files go below it.
        total_steps: optimizer steps at the end.
        best_metric: which of the report's numbers says what is better; None for the loss.
        patience: epochs without a better one after which training ends.
        keep: newest checkpoints to keep, besides the best.
        checkpoint_minutes: between checkpoints within an epoch.
        checkpoint_steps: optimizer steps between them as well.
        profiled_steps: first and last step that TensorFlow's profiler records, counted from 1.
        hyperparameters: name → value, for TensorBoard's table of runs.
        identity: what else a run that is continued must be the same in, in words → its value.

    Raises:
        InputError: see `train_in_folder`.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    trained = train_in_folder(
        model,
        train_rows.dataset,
        report,
        run_dir=run_dir,
        total_steps=total_steps,
        steps_per_epoch=train_rows.steps_per_epoch,
        tokens_per_step=train_rows.tokens_per_step,
        sequence_length=train_rows.row_tokens,
        identity={
            **train_rows.identity(),
            "validation data": report.source,
            **(identity or {}),
        },
        rows_of=train_rows.rows_of,
        task_of=train_rows.task_of,
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
