"""Floating-point operations of a training step, counted from sizes."""

from __future__ import annotations

from typing import NamedTuple

from tfllm.planning.parameters import projection_sizes
from tfllm.planning.training_plan import TrainingPlan

__all__ = ["Operations", "count_operations"]


class Operations(NamedTuple):
    """Operations of matrix products in one micro-batch, forward and backward together.

    A multiplication and an addition are two.

    Attributes:
        projections: of states with the blocks' matrices and the head's.
        attention: of queries with keys and of shares with values.
        logits: of states with the table of words, where there is a loss.
    """

    projections: float
    attention: float
    logits: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def count_operations(plan: TrainingPlan) -> Operations:
    """Count a micro-batch's operations.

    A product costs `2 · rows · in · out` forward, as much for the gradient by its input and as much
    by its matrix. Blocks that are frozen from below cost forward alone; a frozen matrix with
    adapters has no gradient of its own. What is looked up costs nothing, and passes over numbers
    (norms, activations, dropout, the optimizer) are no products: see `estimate_seconds`.

    Reference:
        Chowdhery et al., PaLM, 2022, arXiv:2204.02311, appendix B.
    """
    sizes = plan.sizes
    layers, trained = sizes.num_layers, sizes.num_layers - plan.frozen_blocks
    numbers = _numbers_of_a_block(plan)
    own = 0 if plan.lora_rank is not None else trained
    blocks = numbers * (layers + trained + own)
    rank = plan.lora_rank or 0
    adapters = 3 * rank * sum(map(sum, projection_sizes(sizes))) * layers
    pairs = 2 * sizes.hidden_dim * plan.tokens
    logits = sizes.vocabulary_size * sizes.embedding_dim
    passes = 3 if plan.embeddings_train or not sizes.tied else 2
    return Operations(
        projections=2.0 * (plan.positions * (blocks + adapters) + _outside_of_blocks(plan)),
        attention=2.0 * plan.positions * pairs * (layers + 2 * trained),
        logits=2.0 * plan.predicted * logits * passes,
    )


def _numbers_of_a_block(plan: TrainingPlan) -> int:
    width = plan.sizes.hidden_dim
    numbers = sum(inputs * outputs for inputs, outputs in projection_sizes(plan.sizes))
    # XLNet's attention: queries, keys, values and back, and twice as many distances as tokens,
    # whose scores are another product of the size of attention's.
    return numbers + 4 * width * width if plan.sizes.family == "xlnet" else numbers


def _outside_of_blocks(plan: TrainingPlan) -> float:
    """Numbers times positions, forward and backward, of what widens embeddings and of heads."""
    sizes = plan.sizes
    width, dim = sizes.hidden_dim, sizes.embedding_dim
    widening = 0.0
    if sizes.family == "albert" or dim != width:
        widening = float(plan.positions * width * dim * (3 if plan.embeddings_train else 1))
    if plan.task == "masked_lm":
        return widening + 3.0 * plan.predicted * width * dim
    if plan.task == "text_classifier":
        return widening + 3.0 * plan.rows * plan.parameters.head
    if plan.task == "causal_lm":
        return widening
    return widening + 3.0 * plan.positions * plan.parameters.head
