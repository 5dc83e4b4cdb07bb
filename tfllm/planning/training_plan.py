"""What is trained, and on how many tokens at once."""

from __future__ import annotations

import dataclasses

from tfllm.errors import InputError
from tfllm.planning.model_sizes import ModelSizes
from tfllm.planning.parameters import (
    Parameters,
    Task,
    check_task,
    count_parameters,
    projection_sizes,
)

__all__ = ["MASKED_SHARE", "TrainingPlan"]

# Of a masked language model's positions, those that are predicted.
MASKED_SHARE = 0.15


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """A model, a task and the micro-batch that one device takes.

    Attributes:
        sizes: of the model.
        task: what it is trained for.
        rows: of a micro-batch on one device.
        tokens: of a row, padding included.
        labels: classes of a classifier.
        accumulate_steps: micro-batches of an optimizer step on one device.
        freeze_layers: embeddings and so many blocks don't train; None where all does.
        lora_rank: adapters of this rank train, and the head; None for none.
        is_loaded: whether weights are read from a checkpoint.
    """

    sizes: ModelSizes
    task: Task
    rows: int
    tokens: int
    labels: int = 2
    accumulate_steps: int = 1
    freeze_layers: int | None = None
    lora_rank: int | None = None
    is_loaded: bool = False

    def check(self, source: str) -> None:
        """Refuse what the recipes would refuse.

        Args:
            source: the model's name, for messages.

        Raises:
            InputError: naming the flag.
        """
        check_task(self.sizes, self.task, source)
        most, layers = self.sizes.max_tokens, self.sizes.num_layers
        if most is not None and self.tokens > most:
            raise InputError(
                f"--sequence_length {self.tokens} is above the {most} positions of {source}. Give "
                f"at most {most}"
            )
        if self.freeze_layers is not None and self.lora_rank is not None:
            raise InputError("give one of --freeze_layers and --lora_rank, not both")
        if self.freeze_layers is not None and not 0 <= self.freeze_layers <= layers:
            raise InputError(
                f"--freeze_layers must be 0 to {layers}, the blocks of {source}. Received: "
                f"{self.freeze_layers}"
            )
        if self.lora_rank is not None and self.task == "masked_lm":
            raise InputError("--lora_rank is not for --task masked_lm. Leave one of them out")

    @property
    def positions(self) -> int:
        """Of a micro-batch."""
        return self.rows * self.tokens

    @property
    def predicted(self) -> int:
        """Positions of a micro-batch that need logits over the vocabulary."""
        if self.task == "causal_lm":
            return self.positions
        return round(MASKED_SHARE * self.positions) if self.task == "masked_lm" else 0

    @property
    def parameters(self) -> Parameters:
        """Of the model as it is built, adapters not counted."""
        return count_parameters(self.sizes, self.task, self.labels)

    @property
    def frozen_blocks(self) -> int:
        """Lowest blocks that no gradient goes through."""
        return self.freeze_layers or 0

    @property
    def embeddings_train(self) -> bool:
        """Whether the tables of words and positions have gradients."""
        return self.freeze_layers is None and self.lora_rank is None

    @property
    def adapters(self) -> int:
        """Numbers of all adapters."""
        if self.lora_rank is None:
            return 0
        pairs = projection_sizes(self.sizes)
        return self.sizes.blocks_of_its_own * self.lora_rank * sum(map(sum, pairs))

    @property
    def trainable(self) -> int:
        """Numbers that an optimizer step changes."""
        counted = self.parameters
        if self.lora_rank is not None:
            return self.adapters + counted.head - self._pooler
        if self.freeze_layers is None:
            return counted.total
        blocks = counted.blocks - self.frozen_blocks * counted.block
        # XLNet's embedding of what is to be predicted is no part of its table of words.
        mask = self.sizes.hidden_dim if self.sizes.family == "xlnet" else 0
        return blocks + counted.head + mask

    @property
    def _pooler(self) -> int:
        """Numbers of the head that are the backbone's, and stay as they are beside adapters."""
        pools = self.task == "text_classifier" and self.sizes.family in ("bert", "albert")
        return self.sizes.hidden_dim * (self.sizes.hidden_dim + 1) if pools else 0

    @property
    def word_table_gradient_is_dense(self) -> bool:
        """Whether the gradient by the words is as large as their table, and not a batch's words.

        A head that is the same table has a slope at each of its rows; sums over micro-batches are
        dense too.
        """
        has_tied_head = self.task in ("causal_lm", "masked_lm") and self.sizes.tied
        return self.embeddings_train and (has_tied_head or self.accumulate_steps > 1)
