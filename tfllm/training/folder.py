"""A whole run in its folder: training with everything that people watch it by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tf_keras as keras

from tfllm.errors import InputError
from tfllm.training.best_metric import BestMetric
from tfllm.training.flops import flops_per_token, measured_peak_flops
from tfllm.training.loop import Trained, train
from tfllm.training.profile_steps import ProfileSteps
from tfllm.training.step import SummedLossModel
from tfllm.training.tensorboard import TensorBoardLog
from tfllm.training.workers import Batches, Workers

__all__ = ["train_in_folder"]


def train_in_folder(
    model: SummedLossModel,
    batches: Batches,
    validate: Callable[[int, int], Mapping[str, float]],
    *,
    run_dir: Path,
    total_steps: int,
    steps_per_epoch: int,
    tokens_per_step: int,
    sequence_length: int,
    identity: Mapping[str, str],
    rows_of: Callable[[int], Iterable[int | str]] | None = None,
    task_of: Callable[[int], str] | None = None,
    best_metric: BestMetric | None = None,
    patience: int | None = None,
    keep: int = 2,
    checkpoint_minutes: float = 5.0,
    checkpoint_steps: int | None = None,
    profiled_steps: tuple[int, int] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Trained:
    """Do what `train` does, with TensorBoard's curves, hparams and the profiler on demand.

    Args:
        model: compiled, with the `config` of its backbone.
        batches: see `train`, as all that is not named here.
        validate: see `train`.
        run_dir: checkpoints and TensorBoard's files go below it.
        total_steps: optimizer steps at the end.
        steps_per_epoch: steps of one pass over the data.
        tokens_per_step: positions of one global batch, on average.
        sequence_length: positions of a row, on average: attention's share of the work.
        identity: what must be the same when a run is resumed: name → value.
        rows_of: step → ids of the rows it reads.
        task_of: step → its task, where several take turns; "" for none.
        best_metric: see `train`.
        patience: see `train`.
        keep: newest checkpoints to keep, besides the best.
        checkpoint_minutes: between checkpoints within an epoch.
        checkpoint_steps: optimizer steps between them as well.
        profiled_steps: first and last step that TensorFlow's profiler records, counted from 1.
        hyperparameters: name → value, for TensorBoard's table of runs.

    Raises:
        InputError: see `train`; or if no step of this run would be profiled.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    if profiled_steps is not None and profiled_steps[0] > total_steps:
        raise InputError(
            f"--profile_steps {profiled_steps[0]}-{profiled_steps[1]} lies beyond the end of the "
            f"run, which has {total_steps} steps"
        )
    folder = run_dir / "tensorboard"
    workers = Workers(model.distribute_strategy)
    callbacks: list[keras.callbacks.Callback] = []
    if workers.is_chief:
        utilisation = _seconds_per_token(model, sequence_length, workers.count)
        callbacks.append(
            TensorBoardLog(
                folder,
                tokens_per_step=tokens_per_step,
                utilisation_per_token=utilisation,
                hyperparameters=hyperparameters,
                task_of=task_of,
            )
        )
        if profiled_steps is not None:
            callbacks.append(ProfileSteps(profiled_steps, folder))
    return train(
        model,
        batches,
        validate,
        run_dir=run_dir,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        tokens_per_step=tokens_per_step,
        best_metric=best_metric,
        patience=patience,
        identity=identity,
        keep=keep,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        rows_of=rows_of,
        task_of=task_of,
        callbacks=callbacks,
    )


def _seconds_per_token(model: keras.Model, sequence_length: int, workers: int) -> float | None:
    """How long a position would take at the devices' peak; None where the count would be wrong."""
    if model.non_trainable_variables:
        return None  # frozen weights have no gradients, and adapters' matrices are others
    peak = measured_peak_flops(model.compute_dtype) * workers
    return flops_per_token(model, sequence_length) / peak
