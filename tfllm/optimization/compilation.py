"""A model made ready for `fit`, from the numbers that people give."""

from __future__ import annotations

from typing import Any

from tfllm.optimization.creation import create_optimizer

__all__ = ["compile_model"]


def compile_model(
    model: Any,
    peak: float,
    *,
    total_steps: int,
    accumulate_steps: int = 1,
    xla: bool = False,
    **optimizer_options: Any,
) -> None:
    """Give a model its optimizer, within the strategy that it was made in.

    Args:
        model: a `tfllm.training.step.SummedLossModel`, frozen and wrapped as it will be trained.
        peak: highest learning rate.
        total_steps: optimizer steps of the run.
        accumulate_steps: micro-batches of one optimizer step.
        xla: compile the step.
        **optimizer_options: see `create_optimizer`.

    Raises:
        InputError: if a number makes no sense.
    """
    with model.distribute_strategy.scope():
        optimizer = create_optimizer(model, peak, total_steps=total_steps, **optimizer_options)
        model.compile(optimizer, accumulate_steps=accumulate_steps, jit_compile=xla or None)
