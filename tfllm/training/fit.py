"""`model.fit` counted in optimizer steps, so that it can start in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tf_keras as keras

from tfllm.training.save_checkpoints import SaveCheckpoints
from tfllm.training.stop_on_signal import StopOnSignal
from tfllm.training.workers import Batches, Workers

__all__ = ["fit_steps"]


def fit_steps(
    model: keras.Model,
    batches: Batches,
    *,
    first_step: int,
    total_steps: int,
    steps_per_epoch: int,
    validate: Callable[[int, int], Mapping[str, float]],
    saver: SaveCheckpoints,
    workers: Workers,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> int | None:
    """Train from `first_step` to `total_steps`, with one `model.fit` for each (part of an) epoch.

    An epoch that ends early because `total_steps` is reached is validated like a whole one.
    SIGINT and SIGTERM, to whichever worker, end training of all of them after the same step; a
    checkpoint is written all the same.

    Args:
        model: compiled.
        batches: (first step, number of steps) → dataset of that many batches; see `Batches`.
        first_step: optimizer steps taken before.
        total_steps: optimizer steps at the end.
        steps_per_epoch: steps of one pass over the data.
        validate: (epoch from 1, step) → metrics by name, called after each epoch; what the chief
            measures counts.
        saver: told of each validation, saves, and may end training early.
        workers: of the strategy that the model was made in.
        callbacks: more Keras callbacks; epochs are counted from the start of the run.

    Returns:
        the signal that stopped training, or None.
    """
    step = first_step
    ended = step > 0 and (step % steps_per_epoch == 0 or step == total_steps)
    if ended and saver.compared_at != step:
        # Killed between an epoch's last step and its validation.
        _compare(saver, workers, validate(-(-step // steps_per_epoch), step))
        saver.save()
    with StopOnSignal(workers.agree) as stop:
        while step < total_steps and not saver.out_of_patience:
            epoch = step // steps_per_epoch
            end = min((epoch + 1) * steps_per_epoch, total_steps)
            model.fit(
                workers.share(batches, step, end - step),
                initial_epoch=epoch,
                epochs=epoch + 1,
                steps_per_epoch=end - step,
                callbacks=[saver, *callbacks, stop],
                verbose=0,
            )
            # Within an epoch a signal goes before everything but the checkpoint.
            whole = int(model.optimizer.iterations.numpy()) >= end
            if whole:
                _compare(saver, workers, validate(epoch + 1, end))
            saver.save()
            if stop.look() is not None:
                break
            step = end
    return stop.signal_number


def _compare(saver: SaveCheckpoints, workers: Workers, metrics: Mapping[str, float]) -> None:
    """Hold one worker's number against the best for all, so that all decide alike."""
    value = saver.value_of(metrics) if workers.is_chief else 0.0
    saver.compare(workers.from_chief(value), metrics)
