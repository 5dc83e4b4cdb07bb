"""How long an optimizer step takes on a device of a given speed."""

from __future__ import annotations

from typing import NamedTuple

from tfllm.planning.device_speed import DeviceSpeed
from tfllm.planning.operations import count_operations
from tfllm.planning.training_plan import TrainingPlan

__all__ = ["StepTime", "estimate_step"]

_FLOAT = 4

# Passes over memory in a block, forward and backward, each read or write of a tensor counted as
# one, from what `tfllm.models.gpt2`, `backbones.post_norm` and `tfllm.layers` compute: norms,
# sums, transposes and biases on what is as wide as the model; the activation and its slope; the
# penalty, the softmax and its slope on attention's scores.
_STATE_PASSES, _INNER_PASSES, _SCORE_PASSES = 106, 51, 12
_FORWARD_SHARE = 1 / 3  # of them, for blocks that are frozen from below
# Of a chunk's logits: written, softmax, two largest, two products.
_LOGIT_PASSES = 8
# A dropout's random bits cost about twelve passes; comparing and choosing, both ways, the rest.
_DROPOUT_PASSES = 20
# Of each weight that trains: norm, scale, decay, and the moments' and the weight's own update.
_UPDATE_PASSES = 12

# Attention multiplies many small matrices, at a share of what one large product reaches.
_ATTENTION_SHARE = 0.5
# What TensorFlow spends on the operations of one block, whatever their size.
_BLOCK_SECONDS = 0.002


class StepTime(NamedTuple):
    """Seconds of one optimizer step.

    Attributes:
        products: of matrices.
        passes: over memory.
        update: of the weights.
    """

    products: float
    passes: float
    update: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def estimate_step(plan: TrainingPlan, speed: DeviceSpeed) -> StepTime:
    """Estimate the time of one optimizer step on one device, all its micro-batches included.

    Args:
        plan: what is trained.
        speed: of the device.
    """
    operations = count_operations(plan)
    products = operations.projections + operations.logits
    products += operations.attention / _ATTENTION_SHARE
    layers = plan.sizes.num_layers
    micro_batches = plan.accumulate_steps
    return StepTime(
        products=micro_batches * products / speed.flops,
        passes=micro_batches
        * (_bytes_passed(plan) / speed.bytes_per_second + layers * _BLOCK_SECONDS),
        update=_FLOAT * _UPDATE_PASSES * _updated(plan) / speed.bytes_per_second,
    )


def _bytes_passed(plan: TrainingPlan) -> float:
    sizes, positions = plan.sizes, plan.positions
    scores = positions * plan.tokens * sizes.num_heads
    states, inner = positions * sizes.hidden_dim, positions * sizes.inner_dim
    block = _STATE_PASSES * states + _INNER_PASSES * inner + _SCORE_PASSES * scores
    if sizes.dropout:
        block += 2 * _DROPOUT_PASSES * states
    if sizes.attention_dropout:
        block += _DROPOUT_PASSES * scores
    trained = sizes.num_layers - plan.frozen_blocks
    logits = _LOGIT_PASSES * plan.predicted * sizes.vocabulary_size
    return _FLOAT * (block * (trained + _FORWARD_SHARE * plan.frozen_blocks) + logits)


def _updated(plan: TrainingPlan) -> int:
    """Weights that an update passes over; of a sparse gradient's table, all are too."""
    return plan.trainable
