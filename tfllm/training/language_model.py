"""Training a language model and reporting on it after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfllm.training.language_model_report import LanguageModelReport
from tfllm.training.loop import Trained, train
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
    patience: int | None = None,
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

    Raises:
        InputError: see `train`.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
    """
    report = LanguageModelReport(
        model, validation_blocks.dataset(), measure, sample, run_dir / "tensorboard"
    )
    return train(
        model,
        train_blocks.dataset,
        report,
        run_dir=run_dir,
        total_steps=total_steps,
        steps_per_epoch=train_blocks.steps_per_epoch,
        tokens_per_step=train_blocks.plan.global_batch_size * train_blocks.plan.sequence_length,
        patience=patience,
        identity={
            "training text": train_blocks.store.manifest.source,
            "validation text": validation_blocks.store.manifest.source,
            "tokenizer": train_blocks.store.manifest.tokenizer,
        },
    )
