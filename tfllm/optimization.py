"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["adamw", "is_matrix", "warmup_cosine"]


def warmup_cosine(
    peak: float, *, total_steps: int, warmup_steps: int | None = None, final_fraction: float = 0.1
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rise linearly from 0 to `peak`, then fall along half a cosine.

    Args:
        peak: learning rate at the end of the warm-up.
        total_steps: optimizer steps of rise and fall together.
        warmup_steps: optimizer steps of the rise; None for a tenth of all, at most 100.
        final_fraction: share of `peak` at the end.

    Raises:
        InputError: if nothing is left after the warm-up.

    Reference:
        Loshchilov and Hutter, 2016, arXiv:1608.03983.
    """
    if warmup_steps is None:
        warmup_steps = min(100, total_steps // 10)
    if total_steps <= warmup_steps:
        raise InputError(
            f"the warm-up of {warmup_steps} steps is not shorter than training, which has "
            f"{total_steps}. Give fewer --warmup_steps or more --epochs"
        )
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else peak,
        decay_steps=total_steps - warmup_steps,
        alpha=final_fraction,
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def adamw(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    variables: Iterable[tf.Variable],
    *,
    weight_decay: float = 0.1,
    beta_1: float = 0.9,
    beta_2: float = 0.95,
    epsilon: float = 1e-8,
    clip_norm: float = 1.0,
) -> keras.optimizers.AdamW:
    """Create AdamW that decays matrices only, and build it.

    Biases and the scales of layer norms are left alone, whatever they are called: what counts is
    that a variable has two dimensions longer than 1.

    Args:
        learning_rate: a number or a schedule over optimizer steps.
        variables: those that will be trained.
        weight_decay: decoupled decay, per unit of learning rate.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        clip_norm: the global norm that gradients are scaled down to.

    Reference:
        Loshchilov and Hutter, 2017, arXiv:1711.05101.
    """
    variables = list(variables)
    optimizer = keras.optimizers.AdamW(
        learning_rate,
        weight_decay=weight_decay,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        global_clipnorm=clip_norm,
    )
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_matrix(v)])
    optimizer.build(variables)
    return optimizer


def is_matrix(variable: tf.Variable) -> bool:
    """Whether two dimensions are longer than 1 (GPT-2's biases are `[1, n]` in TensorFlow)."""
    return sum(size > 1 for size in variable.shape) >= 2
