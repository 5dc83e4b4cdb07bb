"""The forward pass of encoders that normalize after each sum: BERT and its kin.

It uses the weights of transformers' TF layers and not their `call`: a row's padding costs no
masks of its own in every layer, dropout can be drawn again, and little is kept for the gradient.

Reference:
    Devlin et al., BERT, 2018, arXiv:1810.04805.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import transformers
from transformers.activations_tf import get_tf_activation

from tfllm.errors import InputError
from tfllm.layers.activations import gelu, gelu_tanh
from tfllm.layers.attention import HIDDEN_KEY, mix_values
from tfllm.layers.dropout import ADAPTER_SITES, SeededDropout
from tfllm.layers.halves import in_halves
from tfllm.layers.lora import LoRA
from tfllm.layers.normalization import layer_norm
from tfllm.models.backbones.family import Family, follow, present

__all__ = [
    "activate",
    "blocks_of",
    "check_heads",
    "create",
    "encode",
    "norm",
    "project",
    "visible_pairs",
]

# Activations that keep little for their gradient.
_LEAN: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
}


class _Shape(NamedTuple):
    """Of a batch: rows and tokens may be tensors."""

    batch: Any
    tokens: Any
    heads: int
    head_dim: int


def create(family: Family, config: Any) -> Any:
    """Build a backbone with the random weights of its transformers class.

    Raises:
        InputError: if the configuration asks for what is not computed here.
    """
    check_heads(config)
    kind = getattr(config, "position_embedding_type", "absolute")
    if kind != "absolute":
        raise InputError(
            f"{family.name} with position_embedding_type={kind!r} is not supported. "
            "Use a checkpoint with absolute positions"
        )
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise InputError(
            f"{family.name} as a decoder (is_decoder, add_cross_attention) is not supported: it "
            "is read here as an encoder. Use a configuration without them"
        )
    backbone = getattr(transformers, family.model)(config, name=f"{config.model_type}_model")
    main = family.main_layer(backbone)
    if family.pooler is None and hasattr(main, "pooler"):
        # No head of the family uses it, and what has no gradient would only decay.
        main.pooler = None
    backbone.build_in_name_scope()
    return backbone


def check_heads(config: Any) -> None:
    """See that the heads share the width evenly.

    Raises:
        InputError: if they do not.
    """
    if config.hidden_size % config.num_attention_heads:
        raise InputError(
            "the hidden size must be a multiple of the number of heads. Received: "
            f"hidden_size={config.hidden_size}, num_attention_heads={config.num_attention_heads}"
        )


def encode(
    family: Family,
    backbone: Any,
    features: Mapping[str, tf.Tensor],
    inputs_embeds: tf.Tensor | None,
    training: bool,
    dropout_seed: tf.Tensor | None,
) -> tf.Tensor:
    """Run each row through the blocks.

    Args:
        family: of the backbone.
        backbone: a TF model of transformers.
        features: see `forward.hidden_states`.
        inputs_embeds: `<float>[batch, tokens, dim]`, in place of the word embeddings.
        training: whether dropout acts.
        dropout_seed: `<int64>[2]`; without one, dropout draws from `tf.random`.

    Returns:
        `<float>[batch, tokens, hidden_dim]`.
    """
    main, config = family.main_layer(backbone), backbone.config
    dropout = SeededDropout.when(training, dropout_seed)
    x = _embed(family, main, config, features, inputs_embeds)
    shape = _shape_of(x, config)
    x = tf.cast(x, main.compute_dtype)
    if dropout:
        x = dropout(x, family.setting(config, "dropout"), site=0)
    # Flat, because a product of a matrix with a matrix is what is fast.
    x = tf.reshape(x, [-1, x.shape[-1]])
    widening = present(main, "embeddings_project") or present(
        main, "encoder.embedding_hidden_mapping_in"
    )
    if widening is not None:
        x = project(widening, x, None, site=0)
    penalty = _penalty(features, shape)
    for i, block in enumerate(blocks_of(family, main, config)):
        x = _block(family, block, x, penalty, config, shape, i, dropout)
    return tf.reshape(x, [shape.batch, shape.tokens, config.hidden_size])


def blocks_of(family: Family, main: Any, config: Any) -> list[Any]:
    """List the blocks in the order in which they run; ALBERT's run several times."""
    *outer, last = family.blocks
    if not outer:
        return list(follow(main, last))
    groups = follow(main, outer[0])
    times = config.num_hidden_layers
    order = [groups[i * len(groups) // times] for i in range(times)]
    return [block for group in order for block in getattr(group, last)]


def _shape_of(x: tf.Tensor, config: Any) -> _Shape:
    dynamic = tf.shape(x)
    heads = config.num_attention_heads
    return _Shape(
        dynamic[0] if x.shape[0] is None else x.shape[0],
        dynamic[1] if x.shape[1] is None else x.shape[1],
        heads,
        config.hidden_size // heads,
    )


def _embed(
    family: Family,
    main: Any,
    config: Any,
    features: Mapping[str, tf.Tensor],
    inputs_embeds: tf.Tensor | None,
) -> tf.Tensor:
    """Words + positions + token types, normalized: `<float32>[batch, tokens, dim]`."""
    embeddings = main.embeddings
    if inputs_embeds is None:
        inputs_embeds = tf.gather(embeddings.weight, features["input_ids"])
    x = tf.cast(inputs_embeds, tf.float32)
    positions = _position_numbers(family, config, features, x)
    # Within Keras's `call`, mixed precision reads tables in half precision.
    x += tf.cast(tf.gather(embeddings.position_embeddings, positions), tf.float32)
    kinds = getattr(embeddings, "token_type_embeddings", None)
    if kinds is not None:
        token_types = features.get("token_type_ids") if kinds.shape[0] > 1 else None
        rows = kinds[0] if token_types is None else tf.gather(kinds, token_types)
        x += tf.cast(rows, tf.float32)
    return norm(embeddings.LayerNorm, x)


def _position_numbers(
    family: Family, config: Any, features: Mapping[str, tf.Tensor], x: tf.Tensor
) -> tf.Tensor:
    """Number the tokens: `position_ids`, or from 0 on in each segment; RoBERTa skips padding.

    Returns:
        `<int32>[batch or 1, tokens]`.
    """
    if features.get("position_ids") is not None:
        return features["position_ids"]
    tokens = x.shape[1] or tf.shape(x)[1]
    first = config.pad_token_id + 1 if family.from_padding else 0
    # A GPU would read zeros beyond the table of positions, and say nothing.
    tf.debugging.assert_less_equal(
        tokens,
        config.max_position_embeddings - first,
        message="rows are longer than the backbone's positions",
    )
    mask, segments = features.get("attention_mask"), features.get("segment_ids")
    if segments is not None:
        same = tf.cast(segments[:, :, None] == segments[:, None, :], tf.int32)
        earlier = tf.linalg.band_part(same, -1, 0)
        return tf.reduce_sum(earlier, axis=-1) - 1 + first
    if family.from_padding and mask is not None:
        mask = tf.cast(mask, tf.int32)
        return tf.cumsum(mask, axis=1) * mask + first - 1
    return tf.range(first, first + tokens)[None]


def visible_pairs(features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
    """Which keys each query sees: real ones of its own segment.

    Returns:
        `<bool>[batch, 1 or queries, keys]`; None where every query sees every key.
    """
    mask, segments = features.get("attention_mask"), features.get("segment_ids")
    visible = None
    if mask is not None:
        visible = tf.cast(mask, tf.bool)[:, None, :]
    if segments is not None:
        same = segments[:, :, None] == segments[:, None, :]
        visible = same if visible is None else visible & same
    return visible


def _penalty(features: Mapping[str, tf.Tensor], shape: _Shape) -> tf.Tensor | None:
    """`<float32>[batch, 1, 1 or queries, keys]`, for `scores - penalty`."""
    visible = visible_pairs(features)
    return None if visible is None else tf.where(visible, 0.0, HIDDEN_KEY)[:, None]


def _block(
    family: Family,
    block: Any,
    x: tf.Tensor,
    penalty: tf.Tensor | None,
    config: Any,
    shape: _Shape,
    index: int,
    dropout: SeededDropout | None,
) -> tf.Tensor:
    """One block, `[batch · tokens, hidden_dim]` → the same."""
    mixed = _attention(family, block, x, penalty, config, shape, index, dropout)
    rest = functools.partial(_rest, family, block, config, index, dropout)
    return rest(mixed, x) if dropout else in_halves(rest, mixed, x)


def _rest(
    family: Family,
    block: Any,
    config: Any,
    index: int,
    dropout: SeededDropout | None,
    mixed: tf.Tensor,
    x: tf.Tensor,
) -> tf.Tensor:
    """What a block does to each row alone, after attention."""
    rate, at = family.setting(config, "dropout"), 6 * index
    mixed = project(family.part(block, "attended"), mixed, dropout, site=at + 3)
    if dropout and family.attended_dropout:
        mixed = dropout(mixed, rate, site=3 * index + 2)
    x = norm(family.part(block, "attention_norm"), mixed + x)
    wide = project(family.part(block, "widen"), x, dropout, site=at + 4)
    wide = activate(family.setting(config, "activation"), wide, dropout)
    narrow = project(family.part(block, "narrow"), wide, dropout, site=at + 5)
    if dropout:
        narrow = dropout(narrow, rate, site=3 * index + 3)
    return norm(family.part(block, "output_norm"), narrow + x)


def _attention(
    family: Family,
    block: Any,
    x: tf.Tensor,
    penalty: tf.Tensor | None,
    config: Any,
    shape: _Shape,
    index: int,
    dropout: SeededDropout | None,
) -> tf.Tensor:
    """Multi-head self-attention before its output projection.

    Reference:
        Vaswani et al., 2017, arXiv:1706.03762.
    """
    # Where nothing is trained rows are few and short, and what matters is what an operation costs.
    turned = _swapped if dropout else _swapped_bits

    def heads(role: str, site: int) -> tf.Tensor:
        split = project(family.part(block, role), x, dropout, site=6 * index + site)
        split = tf.reshape(split, [shape.batch, shape.tokens, shape.heads, shape.head_dim])
        return turned(split)

    query, keys, values = (heads(*role) for role in (("query", 0), ("key", 1), ("value", 2)))
    query *= tf.cast(1.0 / math.sqrt(shape.head_dim), query.dtype)
    # float32 whatever the precision: half-precision softmax sums drift.
    scores = tf.cast(tf.matmul(query, keys, transpose_b=True), tf.float32)
    if penalty is not None:
        # A difference and no sum: TensorFlow fuses a product and a sum into a oneDNN kernel that
        # is ten times slower here.
        scores -= penalty
    kept, rate = None, family.setting(config, "attention_dropout")
    if dropout and rate > 0.0:
        kept = dropout.mask(tf.shape(scores), rate, site=3 * index + 1)
    mixed = turned(mix_values(scores, values, kept, rate))
    return tf.reshape(mixed, [-1, config.hidden_size])


def _swapped(x: tf.Tensor) -> tf.Tensor:
    """Change `[batch, tokens, heads, dim]` into `[batch, heads, tokens, dim]`, or back."""
    return tf.transpose(x, [0, 2, 1, 3])


def _swapped_bits(x: tf.Tensor) -> tf.Tensor:
    """Do the same with numbers that oneDNN does not take for its own.

    It hands a float32 transpose out to all threads, however small. With two threads and 32 tokens
    that is three times as slow as TensorFlow's kernel, and far more on a machine that is busy.
    """
    if x.dtype != tf.float32:
        return _swapped(x)

    @tf.custom_gradient
    def swapped(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.bitcast(_swapped(tf.bitcast(x, tf.uint32)), tf.float32), _swapped

    return swapped(x)


def activate(name: Any, x: tf.Tensor, dropout: SeededDropout | None) -> tf.Tensor:
    """Apply an activation, by the name that configurations use."""
    lean = _LEAN.get(name)
    # Without a gradient to come TensorFlow fuses its own GELU into the product before it.
    if lean is None or (dropout is None and x.dtype == tf.float32):
        return get_tf_activation(name)(x)
    return lean(x)


def norm(layer: Any, x: tf.Tensor) -> tf.Tensor:
    """Apply a Keras layer norm without its `call`."""
    return layer_norm(x, layer.gamma, layer.beta, layer.epsilon)


def project(layer: Any, x: tf.Tensor, dropout: SeededDropout | None, site: int) -> tf.Tensor:
    """Apply a `Dense` to `<float>[rows, in]`, or an adapter around one, which has dropout."""
    if isinstance(layer, LoRA):
        return layer(x, dropout_seed=dropout.seed_at(ADAPTER_SITES + site) if dropout else None)
    projected = tf.matmul(x, tf.cast(layer.kernel, x.dtype))
    return tf.nn.bias_add(projected, tf.cast(layer.bias, x.dtype))
