"""Memory of a training step, by part, at its widest moment.

What is alive follows from how the steps here are written: `tfllm.models.gpt2` and
`tfllm.models.backbones.post_norm` say what a block keeps for its gradient, `tfllm.losses` how many
logits there are at once, `tfllm.training.step` and `tfllm.optimization` what an update needs.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from tfllm.planning.parameters import projection_sizes
from tfllm.planning.training_plan import TrainingPlan

__all__ = ["Memory", "estimate_memory"]

_FLOAT = 4

# Measured: TensorFlow, transformers and tfllm imported, and what a first fit adds to them; then
# each block's part of the graph.
_TENSORFLOW = 620 << 20
_GRAPH_OF_A_BLOCK = 6 << 20

# TensorFlow's allocator keeps what it once took and hands out larger pieces than were asked for:
# measured, as a share of what is asked for.
_ALLOCATOR_SHARE = 0.25

# As `tfllm.losses` has it: logits that are alive at once.
_CHUNK_ELEMENTS = 1 << 24
_LEAST_CHUNK_ROWS = 128

# Tensors as large as a block's inner states that the gradient of its activation needs at once:
# the slope from above, the square, the gate, and two steps of their polynomial.
_INNER_TENSORS = 5
# And as large as attention's scores: the shares again, and the slope by them, before and after.
_SCORE_TENSORS = 2


class _Kept(NamedTuple):
    """What a block keeps, in numbers for each position; see `_kept_by_a_block`.

    Attributes:
        states: tensors as wide as the model.
        inner: tensors as wide as the block's inner part.
    """

    states: int
    inner: int = 2


# GPT-2: the input, its norm, queries before and after scaling, keys, values, the mixed values in
# both orders, the sum, its norm. Post-norm blocks: the input, queries, keys, values, the mixed
# values in both orders, the sum, its norm, and the second sum. Both: before and after the
# activation. XLNet: queries with two biases more, and another copy of keys for the distances.
_GPT2, _POST_NORM, _XLNET = _Kept(10), _Kept(9), _Kept(14)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device at the widest moment of training, by part.

    Attributes:
        tensorflow: the process before it holds a model: libraries, graphs, threads.
        weights: float32.
        optimizer: two moments of each weight that trains.
        gradients: those that are alive then.
        activations: kept for the backward pass.
        logits: over the vocabulary, and what else comes and goes then.
        moment: `loading`, `loss`, `backward` or `update`, when that is.
    """

    tensorflow: int
    weights: int
    optimizer: int
    gradients: int
    activations: int
    logits: int
    moment: str

    @property
    def asked_for(self) -> int:
        """What TensorFlow's allocator is asked for."""
        return self.weights + self.optimizer + self.gradients + self.activations + self.logits

    @property
    def allocator(self) -> int:
        """What it holds beyond that."""
        return round(_ALLOCATOR_SHARE * self.asked_for)

    @property
    def total(self) -> int:
        """What the process holds then."""
        return self.tensorflow + self.asked_for + self.allocator


def estimate_memory(plan: TrainingPlan) -> Memory:
    """Say how much memory a run takes at most, and for what.

    Four moments are compared. Loading: the checkpoint's tensors beside the model's. The loss: all
    activations and a chunk of logits. The backward pass as it enters the blocks: activations and
    what a block needs on its way. The update: gradients of everything, and what is made of them.
    """
    fixed = {
        "tensorflow": _TENSORFLOW + plan.sizes.num_layers * _GRAPH_OF_A_BLOCK,
        "weights": _FLOAT * (plan.parameters.total + plan.adapters),
        "optimizer": 2 * _FLOAT * plan.trainable,
    }
    kept, table, sums = _kept(plan), _slope_of_words(plan), _carried_sums(plan)
    # At the loss: the table's slope so far, a chunk's share of it, and their sum.
    logits = _logits(plan)
    moments = (
        Memory(
            **fixed,
            gradients=sums + 3 * table,
            activations=kept,
            logits=logits,
            moment="loss",
        ),
        Memory(
            **fixed,
            gradients=sums + table,
            activations=kept + _widest_way_through_a_block(plan),
            logits=0,
            moment="backward",
        ),
        Memory(**fixed, gradients=_of_update(plan), activations=0, logits=0, moment="update"),
    )
    return max((*moments, _loading(plan, fixed)), key=lambda memory: memory.total)


def _loading(plan: TrainingPlan, fixed: dict[str, int]) -> Memory:
    copies = fixed["weights"] * (2 if plan.is_loaded else 1)
    return Memory(fixed["tensorflow"], fixed["weights"], 0, 0, 0, copies, "loading")


def _kept(plan: TrainingPlan) -> int:
    """Bytes that the forward pass leaves for the backward pass."""
    trained = plan.sizes.num_layers - plan.frozen_blocks
    return trained * _kept_by_a_block(plan) + 2 * _FLOAT * plan.positions * plan.sizes.hidden_dim


def _kept_by_a_block(plan: TrainingPlan) -> int:
    sizes = plan.sizes
    kept = {"gpt2": _GPT2, "xlnet": _XLNET}.get(sizes.family, _POST_NORM)
    numbers = kept.states * sizes.hidden_dim + kept.inner * sizes.inner_dim
    if plan.lora_rank is not None:
        numbers += len(projection_sizes(sizes)) * plan.lora_rank
    masks = 2 * sizes.hidden_dim if sizes.dropout else 0  # of bytes
    mask_of_shares = 1 if sizes.attention_dropout else 0
    return plan.positions * (_FLOAT * numbers + masks) + _scores(plan) * (_FLOAT + mask_of_shares)


def _scores(plan: TrainingPlan) -> int:
    """Numbers of one block's attention: each head, each query, each key."""
    return plan.positions * plan.tokens * plan.sizes.num_heads


def _widest_way_through_a_block(plan: TrainingPlan) -> int:
    """Bytes that come and go in a block's backward pass."""
    again = 1 if plan.sizes.attention_dropout else 0
    scores = (_SCORE_TENSORS + again) * _scores(plan)
    inner = _INNER_TENSORS * plan.positions * plan.sizes.inner_dim
    return _FLOAT * max(scores, inner)


def _logits(plan: TrainingPlan) -> int:
    """Bytes of a chunk's logits and of their shares, where there is a loss over the words."""
    words = plan.sizes.vocabulary_size
    rows = min(plan.predicted, max(_LEAST_CHUNK_ROWS, _CHUNK_ELEMENTS // words))
    return 2 * _FLOAT * rows * words


def _slope_of_words(plan: TrainingPlan) -> int:
    """Bytes of the gradient by the head's table, which exists from the loss on."""
    if plan.task not in ("causal_lm", "masked_lm") or plan.lora_rank is not None:
        return 0
    return _FLOAT * plan.parameters.words


def _carried_sums(plan: TrainingPlan) -> int:
    """Bytes of the gradients of the micro-batches so far, all of them dense."""
    return _FLOAT * plan.trainable if plan.accumulate_steps > 1 else 0


def _of_update(plan: TrainingPlan) -> int:
    """Bytes of all gradients, and of the word table's while it is made dense and decayed."""
    words = plan.parameters.words if plan.embeddings_train else 0
    others = plan.trainable - words
    sums = others if plan.accumulate_steps > 1 else 0
    return _FLOAT * (others + 3 * words + sums)
