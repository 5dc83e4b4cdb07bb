"""What a family of backbones is: backbones that are built alike, under the same names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["Family", "Fields", "HeadNames", "Part", "follow", "present"]


class Part(NamedTuple):
    """A layer or a variable, by its two names, each relative to what holds it.

    Attributes:
        torch: PyTorch's: `attention.self.query`.
        attributes: of transformers' TF layer: `attention.self_attention.query`.
    """

    torch: str
    attributes: str


class Fields(NamedTuple):
    """What a family's configuration calls what all configurations have.

    Attributes:
        activation: between the two projections of the feed-forward part.
        dropout: share of embeddings and of projections' outputs.
        attention_dropout: share of the attention's weights.
    """

    activation: str
    dropout: str
    attention_dropout: str


class HeadNames(NamedTuple):
    """The head of PyTorch's `…ForSequenceClassification`: `[dense, activation,] out`.

    Attributes:
        dense: PyTorch's name of the head's own hidden layer; None where it has none, or where the
            backbone's pooler is that layer.
        activation: after `dense`, or the pooler.
        out: PyTorch's name of the last layer.
        dropouts: fields of the configuration with the rate of dropout, the first that is there
            and not None; none for no dropout.
        dropout_first: whether there is dropout before `dense` as well.
        out_bias: whether `out` has a bias.
    """

    dense: str | None
    activation: str | None
    out: str
    dropouts: tuple[str, ...]
    dropout_first: bool = False
    out_bias: bool = True


class Family(NamedTuple):
    """Backbones that are built alike.

    Attributes:
        name: for messages.
        model: the transformers class without a head.
        create: builds one with random weights, see `post_norm.create`.
        forward: our forward pass, see `post_norm.encode`.
        words: path of the matrix of word embeddings, `<float>[vocabulary, dim]`.
        embeddings: paths of the layers below the blocks.
        outer: parts outside the blocks, in PyTorch's order; what a backbone lacks is skipped.
        blocks: paths of the lists that lead to a block, the same in both frameworks.
        parts: of a block, by their role in the forward pass.
        fields: of the configuration.
        head: PyTorch's names.
        pooler: the part of `outer` that only the head uses, if there is one.
        attended_dropout: whether there is dropout after the attention's projection.
        from_padding: whether positions start after the padding token's id.
        token_types: whether it knows first and second text.
        causal: whether a token sees only what stands before it.
        summary: which token stands for the row, "first" or "last".
        shared: whether several blocks are the same layer.
        input_first: whether PyTorch stores matrices `[in, out]`.
        projections: roles of the parts that are projections.
    """

    name: str
    model: str
    create: Callable[[Family, Any], Any]
    forward: Callable[..., Any]
    words: str
    embeddings: tuple[str, ...]
    outer: tuple[Part, ...]
    blocks: tuple[str, ...]
    parts: Mapping[str, Part]
    fields: Fields
    head: HeadNames
    pooler: Part | None = None
    attended_dropout: bool = True
    from_padding: bool = False
    token_types: bool = False
    causal: bool = False
    summary: str = "first"
    shared: bool = False
    input_first: bool = False
    projections: tuple[str, ...] = ("query", "key", "value", "attended", "widen", "narrow")

    def main_layer(self, backbone: Any) -> Any:
        """Find the layer within the model that holds everything."""
        return getattr(backbone, backbone.base_model_prefix)

    def part(self, block: Any, role: str) -> Any:
        """Find what plays a role in a block."""
        return follow(block, self.parts[role].attributes)

    def setting(self, config: Any, field: str) -> Any:
        """Read a setting by what all families call it."""
        return getattr(config, getattr(self.fields, field))


def follow(start: Any, attributes: str) -> Any:
    """Go from attribute to attribute."""
    for attribute in attributes.split("."):
        start = getattr(start, attribute)
    return start


def present(start: Any, attributes: str) -> Any:
    """Do what `follow` does; None where an attribute is missing."""
    for attribute in attributes.split("."):
        start = getattr(start, attribute, None)
        if start is None:
            return None
    return start
