"""One training run: resume, fit, validate, save, and end with the best weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tf_keras as keras

from tfllm.errors import InputError, Interrupted
from tfllm.training.best_metric import BestMetric
from tfllm.training.checkpoints import Checkpoints
from tfllm.training.fit import fit_steps
from tfllm.training.memory import peak_memory_bytes
from tfllm.training.optimizer_identity import optimizer_identity
from tfllm.training.progress import Progress
from tfllm.training.save_checkpoints import SaveCheckpoints
from tfllm.training.step import SummedLossModel
from tfllm.training.step_guard import StepGuard
from tfllm.training.workers import Batches, Workers

__all__ = ["Trained", "train"]


class Trained(NamedTuple):
    """What a training run says of itself.

    Attributes:
        steps: optimizer steps taken, those before a resume included.
        best: what was measured on validation with the weights that the model has now.
        tokens_per_second: positions per second of this process; None if it took under two steps.
        skipped_steps: steps whose loss or gradients were not finite.
        peak_bytes: most memory of this process, or of its GPUs.
    """

    steps: int
    best: dict[str, float]
    tokens_per_second: float | None
    skipped_steps: int
    peak_bytes: int


def train(
    model: SummedLossModel,
    batches: Batches,
    validate: Callable[[int, int], Mapping[str, float]],
    *,
    run_dir: Path,
    total_steps: int,
    steps_per_epoch: int,
    tokens_per_step: int,
    best_metric: BestMetric | None = None,
    patience: int | None = None,
    identity: Mapping[str, str] | None = None,
    keep: int = 2,
    checkpoint_minutes: float = 5.0,
    checkpoint_steps: int | None = None,
    rows_of: Callable[[int], Iterable[int | str]] | None = None,
    task_of: Callable[[int], str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Train a compiled model in a run folder, from its newest checkpoint if it has one.

    Afterwards the model has the weights of the epoch that validation called the best. Under a
    strategy of several workers all of them call this with the same arguments; the chief alone
    writes.

    Args:
        model: compiled.
        batches: (first step, number of steps) → dataset of that many batches; see `Batches`.
        validate: (epoch from 1, step) → metrics by name, called after each epoch; may print.
        run_dir: checkpoints and TensorBoard's files go below it.
        total_steps: optimizer steps at the end.
        steps_per_epoch: steps of one pass over the data.
        tokens_per_step: positions of one global batch.
        best_metric: which of them says what is better; None for `loss`, the lower the better.
        patience: epochs without a better one after which training ends.
        identity: what must be the same when a run is resumed, such as digests of text and
            vocabulary: name → value.
        keep: newest checkpoints to keep, besides the best.
        checkpoint_minutes: between checkpoints within an epoch.
        checkpoint_steps: optimizer steps between them as well; None for minutes alone.
        rows_of: step → ids of the rows it reads, for messages about a bad step.
        task_of: step → its task; losses of one are not compared with those of another.
        callbacks: more of them, such as `TensorBoardLog`.

    Raises:
        InputError: if a checkpoint is of another identity, none of them can be read, training
            diverged, or too many steps in a row were not finite.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    best_metric = best_metric or BestMetric()
    identity = {
        "best metric": best_metric.name,
        **optimizer_identity(model.optimizer),
        **(identity or {}),
    }
    workers = Workers(model.distribute_strategy)
    workers.require_same(
        {
            **identity,
            "number of steps": total_steps,
            "number of steps an epoch": steps_per_epoch,
            "batch size": tokens_per_step,
            "patience": patience,
        }
    )
    checkpoints = Checkpoints(
        run_dir / "checkpoints", model, keep=keep, identity=identity, workers=workers
    )
    saver = SaveCheckpoints(
        checkpoints,
        minutes=checkpoint_minutes,
        steps=checkpoint_steps,
        patience=patience,
        metric=best_metric,
    )
    state = checkpoints.restore_latest()
    if state is not None:
        saver.restore(state)
        print(f"Going on from step {checkpoints.step()} of {total_steps}.", flush=True)
    first_step = checkpoints.step()
    progress = Progress(
        first_step=first_step, total_steps=total_steps, tokens_per_step=tokens_per_step
    )
    guard = StepGuard(
        batches, run_dir if workers.is_chief else None, rows_of=rows_of, task_of=task_of
    )
    with progress, checkpoints:
        signal_number = fit_steps(
            model,
            batches,
            first_step=first_step,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            validate=validate,
            saver=saver,
            workers=workers,
            callbacks=[progress, guard, *callbacks],
        )
    if signal_number is not None:
        raise Interrupted(signal_number)
    steps = checkpoints.step()
    if not math.isfinite(saver.best):
        raise InputError(
            f"training diverged: after {steps} steps no validation {best_metric.name} was a "
            "number. "
            "Give a lower --learning_rate or a longer --warmup_steps"
        )
    skipped, _ = model.skipped_counts
    best = checkpoints.restore_best()
    if best is None:
        raise InputError(
            f"the best checkpoint in {checkpoints.folder} is damaged. Train again in a new "
            "--run_dir"
        )
    if workers.is_chief and (kept := checkpoints.step()) < steps:
        epoch = math.ceil(kept / steps_per_epoch)
        print(f"Kept: the weights of epoch {epoch}, the best {best_metric.name}.", flush=True)
    return Trained(steps, best["best"], progress.tokens_per_second, skipped, peak_memory_bytes())
