"""The optimizer of a run, from the numbers that people give."""

from __future__ import annotations

import tf_keras as keras

from tfllm.errors import InputError
from tfllm.optimization.layer_depth import depth_by_name, layer_multipliers
from tfllm.optimization.layerwise_adamw import LayerwiseAdamW, adamw
from tfllm.optimization.schedules import Shape, learning_rate_schedule

__all__ = ["create_optimizer"]

_FINAL_FRACTION = 0.1


def create_optimizer(
    model: keras.Model,
    peak: float,
    *,
    total_steps: int,
    schedule: Shape = "cosine",
    warmup_steps: int | None = None,
    warmup_fraction: float | None = None,
    weight_decay: float = 0.1,
    beta_2: float = 0.95,
    clip_norm: float = 1.0,
    average_momentum: float | None = None,
    layer_decay: float | None = None,
) -> LayerwiseAdamW:
    """Create AdamW for what of a model trains, within the strategy's scope.

    Args:
        model: built; frozen and wrapped as it will be trained.
        peak: highest learning rate; cosine and linear end at a tenth of it.
        total_steps: optimizer steps of the run.
        schedule: see `learning_rate_schedule`, as its two warm-ups.
        warmup_steps: optimizer steps of the warm-up.
        warmup_fraction: their share of all, instead.
        weight_decay: decoupled, of matrices.
        beta_2: decay of the second moment: 0.95 in pretraining, 0.999 where little is learnt.
        clip_norm: global norm that gradients are scaled down to.
        average_momentum: of an exponential average of the weights; None for none.
        layer_decay: each block learns at this share of the rate of the one above it; None for
            one rate. The model has `config.num_hidden_layers`.

    Raises:
        InputError: if a number makes no sense.
    """
    variables = model.trainable_variables
    multipliers = None
    if layer_decay is not None:
        if not any(depth_by_name(variable) is not None for variable in variables):
            raise InputError(
                f"--layer_decay {layer_decay} would slow nothing down: no embedding and no block "
                "trains. Leave it out, or freeze less"
            )
        layers = model.config.num_hidden_layers
        multipliers = layer_multipliers(variables, num_layers=layers, decay=layer_decay)
    return adamw(
        learning_rate_schedule(
            schedule,
            peak,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
            final_fraction=_FINAL_FRACTION,
        ),
        variables,
        weight_decay=weight_decay,
        beta_2=beta_2,
        clip_norm=clip_norm,
        average_momentum=average_momentum,
        multipliers=multipliers,
    )
