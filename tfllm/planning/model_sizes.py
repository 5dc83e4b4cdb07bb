"""What a model's `config.json` says of its size, read without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfllm.errors import InputError

__all__ = ["FAMILIES", "ModelSizes"]


class _Field(NamedTuple):
    """What a family's configuration calls a size, and what it is where it is not there."""

    key: str
    default: int | float | None


@dataclasses.dataclass(frozen=True)
class ModelSizes:
    """Sizes of a backbone, under one name each whatever the family.

    Attributes:
        family: transformers' `model_type`.
        num_layers: times that a row goes through a block.
        num_heads: attention heads of a block.
        hidden_dim: width of the states.
        inner_dim: width between a block's two last projections.
        vocabulary_size: rows of the table of words.
        position_rows: rows of the table of positions; 0 for none.
        token_types: rows of the table of token types; 0 for none.
        embedding_dim: width of these tables.
        blocks_of_its_own: blocks with weights of their own; fewer than `num_layers` in ALBERT.
        dropout: share of projections' outputs that training zeroes.
        attention_dropout: the same of attention's weights.
        first_position: number of a row's first position; not 0 in RoBERTa.
        tied: whether a language model's head is the table of words.
    """

    family: str
    num_layers: int
    num_heads: int
    hidden_dim: int
    inner_dim: int
    vocabulary_size: int
    position_rows: int
    token_types: int
    embedding_dim: int
    blocks_of_its_own: int
    dropout: float = 0.1
    attention_dropout: float = 0.1
    first_position: int = 0
    tied: bool = True

    @property
    def max_tokens(self) -> int | None:
        """Tokens that a row may have; None for any number."""
        return self.position_rows - self.first_position if self.position_rows else None

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only what stands before it."""
        return self.family == "gpt2"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str) -> ModelSizes:
        """Read a configuration as transformers writes it.

        Args:
            config: what `config.json` holds; what it lacks is what transformers takes by default.
            source: where it came from, for messages.

        Raises:
            InputError: if the family is unknown or a size makes no sense.
        """
        family = config.get("model_type")
        fields = FAMILIES.get(family) if isinstance(family, str) else None
        if fields is None or not isinstance(family, str):
            raise InputError(
                f"{source} holds a model of the type {family!r}. Give one of the types "
                f"{', '.join(FAMILIES)}"
            )
        read = {name: _number(config, field, source) for name, field in fields.items()}
        width = int(read["hidden_dim"])
        layers, inner_blocks = int(read["num_layers"]), int(read.get("blocks_of_a_layer", 1))
        groups = read.get("groups", layers)
        sizes = cls(
            family=family,
            num_layers=layers * inner_blocks,
            num_heads=int(read["num_heads"]),
            hidden_dim=width,
            inner_dim=int(read["inner_dim"]) or 4 * width,
            vocabulary_size=int(read["vocabulary_size"]),
            position_rows=int(read.get("position_rows", 0)),
            token_types=int(read.get("token_types", 0)),
            embedding_dim=int(read.get("embedding_dim", width)),
            blocks_of_its_own=int(groups) * inner_blocks,
            dropout=float(read["dropout"]),
            attention_dropout=float(read.get("attention_dropout", read["dropout"])),
            first_position=int(read["padding"]) + 1 if "padding" in read else 0,
            tied=bool(config.get("tie_word_embeddings", True)),
        )
        sizes.check(source)
        return sizes

    def check(self, source: str) -> None:
        """Refuse what can't be built.

        Args:
            source: where the sizes came from, for messages.

        Raises:
            InputError: if a size is below 1, or the heads don't share the width evenly.
        """
        for name in ("num_layers", "num_heads", "hidden_dim", "inner_dim", "vocabulary_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{source}: {name} must be at least 1. Got {getattr(self, name)}")
        if self.hidden_dim % self.num_heads:
            raise InputError(
                f"{source}: the width must be a multiple of the number of heads. Received: "
                f"hidden_dim={self.hidden_dim}, num_heads={self.num_heads}"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InputError(f"{source}: a row has no positions ({self.position_rows} in all)")


def _number(config: Mapping[str, Any], field: _Field, source: str) -> int | float:
    value = config.get(field.key)
    if value is None:
        value = field.default
    if value is None:
        return 0
    whole = not isinstance(field.default, float)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{source}: {field.key} must be {kind}, 0 or above. Received: {value!r}")
    return value


_BERT = {
    "num_layers": _Field("num_hidden_layers", 12),
    "num_heads": _Field("num_attention_heads", 12),
    "hidden_dim": _Field("hidden_size", 768),
    "inner_dim": _Field("intermediate_size", 3072),
    "vocabulary_size": _Field("vocab_size", 30_522),
    "position_rows": _Field("max_position_embeddings", 512),
    "token_types": _Field("type_vocab_size", 2),
    "dropout": _Field("hidden_dropout_prob", 0.1),
    "attention_dropout": _Field("attention_probs_dropout_prob", 0.1),
}
_ROBERTA = _BERT | {"padding": _Field("pad_token_id", 1)}

# Defaults are those of transformers' classes, for what an old config.json does not say.
FAMILIES: dict[str, dict[str, _Field]] = {
    "bert": _BERT,
    "roberta": _ROBERTA | {"vocabulary_size": _Field("vocab_size", 50_265)},
    "xlm-roberta": _ROBERTA,
    "distilbert": {
        "num_layers": _Field("n_layers", 6),
        "num_heads": _Field("n_heads", 12),
        "hidden_dim": _Field("dim", 768),
        "inner_dim": _Field("hidden_dim", 3072),
        "vocabulary_size": _Field("vocab_size", 30_522),
        "position_rows": _Field("max_position_embeddings", 512),
        "dropout": _Field("dropout", 0.1),
        "attention_dropout": _Field("attention_dropout", 0.1),
    },
    "albert": {
        "num_layers": _Field("num_hidden_layers", 12),
        "groups": _Field("num_hidden_groups", 1),
        "blocks_of_a_layer": _Field("inner_group_num", 1),
        "num_heads": _Field("num_attention_heads", 64),
        "hidden_dim": _Field("hidden_size", 4096),
        "inner_dim": _Field("intermediate_size", 16_384),
        "embedding_dim": _Field("embedding_size", 128),
        "vocabulary_size": _Field("vocab_size", 30_000),
        "position_rows": _Field("max_position_embeddings", 512),
        "token_types": _Field("type_vocab_size", 2),
        "dropout": _Field("hidden_dropout_prob", 0.0),
        "attention_dropout": _Field("attention_probs_dropout_prob", 0.0),
    },
    "electra": _BERT
    | {
        "num_heads": _Field("num_attention_heads", 4),
        "hidden_dim": _Field("hidden_size", 256),
        "inner_dim": _Field("intermediate_size", 1024),
        "embedding_dim": _Field("embedding_size", 128),
    },
    "gpt2": {
        "num_layers": _Field("n_layer", 12),
        "num_heads": _Field("n_head", 12),
        "hidden_dim": _Field("n_embd", 768),
        "inner_dim": _Field("n_inner", None),  # four times the width
        "vocabulary_size": _Field("vocab_size", 50_257),
        "position_rows": _Field("n_positions", 1024),
        "dropout": _Field("resid_pdrop", 0.1),
        "attention_dropout": _Field("attn_pdrop", 0.1),
    },
    "xlnet": {
        "num_layers": _Field("n_layer", 24),
        "num_heads": _Field("n_head", 16),
        "hidden_dim": _Field("d_model", 1024),
        "inner_dim": _Field("d_inner", 4096),
        "vocabulary_size": _Field("vocab_size", 32_000),
        "dropout": _Field("dropout", 0.1),
    },
}
