"""Training a language model and reporting on it after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import tf_keras as keras

from tfllm.training.flops import flops_per_token, measured_peak_flops
from tfllm.training.language_model_report import LanguageModelReport
from tfllm.training.loop import Trained, train
from tfllm.training.profile_steps import ProfileSteps
from tfllm.training.step import SummedLossModel
from tfllm.training.tensorboard import TensorBoardLog
from tfllm.training.workers import Workers

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
    patience: int | None = None,
    keep: int = 2,
    checkpoint_minutes: float = 5.0,
    checkpoint_steps: int | None = None,
    measured_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    profiled_steps: tuple[int, int] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Trained:
    """Train on blocks of tokens; each epoch is scored, sampled from, printed and drawn.

    Afterwards the model has the weights of the epoch with the lowest validation loss.

    Args:
        model: compiled.
        train_blocks: `tfllm.data.TokenBlocks`, shuffled.
        validation_blocks: `tfllm.data.TokenBlocks` in their own order.
        run_dir: checkpoints and TensorBoard's files go below it.
        total_steps: optimizer steps at the end.
        measure: validation loss → what is reported, by name.
        sample: gives a prompt and how the model goes on from it.
        patience: epochs without a better loss after which training ends.
        keep: newest checkpoints to keep, besides the best.
        checkpoint_minutes: between checkpoints within an epoch.
        checkpoint_steps: optimizer steps between them as well; None for minutes alone.
        measured_within: gives a context to measure in, such as the average of the weights.
        profiled_steps: first and last step that TensorFlow's profiler records, counted from 1.
        hyperparameters: name → value, for TensorBoard's table of runs.

    Raises:
        InputError: see `train`.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    plan = train_blocks.plan
    tokens_per_step = plan.global_batch_size * plan.sequence_length
    folder = run_dir / "tensorboard"
    workers = Workers(model.distribute_strategy)
    callbacks: list[keras.callbacks.Callback] = []
    if workers.is_chief:
        peak = measured_peak_flops(model.compute_dtype) * workers.count
        callbacks.append(
            TensorBoardLog(
                folder,
                tokens_per_step=tokens_per_step,
                utilisation_per_token=flops_per_token(model, plan.sequence_length) / peak,
                hyperparameters=hyperparameters,
            )
        )
        if profiled_steps is not None:
            callbacks.append(ProfileSteps(profiled_steps, folder))
    report = LanguageModelReport(
        model,
        validation_blocks.dataset(),
        measure,
        sample,
        folder,
        measured_within=measured_within,
    )
    return train(
        model,
        train_blocks.dataset,
        report,
        run_dir=run_dir,
        total_steps=total_steps,
        steps_per_epoch=train_blocks.steps_per_epoch,
        tokens_per_step=tokens_per_step,
        patience=patience,
        keep=keep,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        rows_of=plan.block_starts,
        callbacks=callbacks,
        identity={
            "training text": train_blocks.store.manifest.source,
            "validation text": validation_blocks.store.manifest.source,
            "tokenizer": train_blocks.store.manifest.tokenizer,
        },
    )
