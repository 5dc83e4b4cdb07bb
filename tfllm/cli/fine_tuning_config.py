"""The flags that all recipes of fine-tuning share."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, TypedDict

from tfllm.cli.common_config import CommonConfig, ScheduleName, require

__all__ = ["FineTuningConfig", "Sizes"]


class Sizes(TypedDict):
    """Flags as `tfllm.models.small_bert_config` takes them."""

    num_layers: int
    num_heads: int
    hidden_dim: int
    dropout: float


@dataclasses.dataclass(frozen=True)
class FineTuningConfig(CommonConfig):
    """The flags of recipes that put a head on a backbone, beside those of all recipes.

    Attributes:
        rows_are_packed: whether all rows of the recipe have one length.
    """

    rows_are_packed: ClassVar[bool] = False

    epochs: int | None = None
    """Passes over the training data. Default: 3 with --pretrained, 10 from scratch."""
    learning_rate: float | None = None
    """Highest learning rate. Default: 5e-5 with --pretrained, 1e-3 from scratch."""
    learning_rate_schedule: ScheduleName = "linear"
    """How the learning rate falls after the warm-up; cosine and linear end at a tenth."""
    weight_decay: float = 0.01
    """Decoupled decay of matrices, per unit of learning rate."""
    on_error: Literal["refuse", "skip"] = "refuse"
    """Whether a row that can't be read ends the recipe or is left out and counted."""
    allow_pickle: bool = False
    """Read --pretrained's pytorch_model.bin, a pickle, which can run code. Needs torch."""
    new_head: bool = False
    """Put a new head on --pretrained's backbone even where it brings one, of other labels say."""
    tokenizer: str | None = None
    """From scratch: a folder whose vocabulary is taken. Default: one is trained on --train."""
    vocabulary_size: int = 2048
    """From scratch: words of the vocabulary that is trained where --tokenizer brings none."""
    num_layers: int = 2
    """From scratch: blocks of the BERT."""
    num_heads: int = 4
    """From scratch: attention heads of each block."""
    hidden_dim: int = 128
    """From scratch: width, a multiple of --num_heads."""
    dropout: float = 0.1
    """From scratch: share of activations that training zeroes; at least 0 and below 1."""

    def check(self) -> None:
        """Refuse values that no run can use; see `CommonConfig.check`."""
        super().check()
        for name in ("num_layers", "num_heads", "hidden_dim"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        rule = f"must be a multiple of --num_heads {self.num_heads}"
        require(self.hidden_dim % self.num_heads == 0, "hidden_dim", self.hidden_dim, rule)
        rule = "must be at least 0 and below 1"
        require(0 <= self.dropout < 1, "dropout", self.dropout, rule)
        rule = "must be at least 100"
        require(self.vocabulary_size >= 100, "vocabulary_size", self.vocabulary_size, rule)
        rule = "is for packed rows: those of this task differ in length, and each is compiled"
        require(not self.xla or self.rows_are_packed, "xla", self.xla, rule)
        require(self.tokenizer != "", "tokenizer", "''", "must not be empty")
        both = bool(self.pretrained and self.tokenizer)
        rule = "is for a model from scratch, and --pretrained brings its own"
        require(not both, "tokenizer", self.tokenizer, rule)
        for name in ("allow_pickle", "new_head"):
            given = getattr(self, name)
            require(bool(self.pretrained) or not given, name, given, "needs --pretrained")
        for name in ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "dropout"):
            value, default = getattr(self, name), getattr(FineTuningConfig, name)
            rule = "is for a model from scratch, and --pretrained brings its own"
            require(not self.pretrained or value == default, name, value, rule)

    def sizes(self) -> Sizes:
        """Sizes of a model from scratch."""
        return {
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
        }

    def passes(self) -> int:
        """Passes over the training data, given or by default."""
        return self.epochs or (3 if self.pretrained else 10)

    def peak_learning_rate(self) -> float:
        """The highest learning rate, given or by default."""
        return self.learning_rate or (5e-5 if self.pretrained else 1e-3)
