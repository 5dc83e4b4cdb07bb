"""GPT-2's forward pass over the blocks of transformers' `TFGPT2Model`.

One pass serves training, scoring, decoding and export. It uses the weights and the layers of the
backbone but not its `call`, which takes no packed masks, multiplies by a causal mask in every
layer and keeps a cache that grows.

Reference:
    Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from transformers import GPT2Config, TFGPT2Model
from transformers.modeling_tf_utils import TFConv1D

from tfllm.errors import InputError
from tfllm.layers.activations import gelu_tanh
from tfllm.layers.attention import HIDDEN_KEY, mix_values
from tfllm.layers.dropout import ADAPTER_SITES, SeededDropout
from tfllm.layers.lora import LoRA
from tfllm.layers.normalization import layer_norm

__all__ = [
    "KeyValues",
    "Transposed",
    "create_backbone",
    "decode_step",
    "hidden_states",
    "positions_of",
    "prefill",
    "projections",
    "transposed_projections",
    "visible_keys",
]


# From where on a product with a transposed matrix is worth a copy: with three rows it takes as
# long as the plain one, and after six tokens the copy has paid.
_SEVERAL_ROWS, _SEVERAL_TOKENS = 4, 8


class KeyValues(NamedTuple):
    """Keys and values of one block, `<float>[batch, heads, columns, head_dim]` each."""

    keys: tf.Tensor
    values: tf.Tensor


class Transposed(NamedTuple):
    """Copies of the blocks' matrices, see `transposed_projections`.

    Attributes:
        used: `<bool>[]`, whether they were worth it.
        matrices: `<float>[outputs, inputs]` each, in the order of `projections`; `[0, 0]` for
            adapters, and where they are not used.
    """

    used: tf.Tensor
    matrices: Sequence[tf.Tensor]


class _Step(NamedTuple):
    """Where one token a row stands.

    Attributes:
        cache: of each block.
        column: `<int32>[]`, of the cache, for this token.
        transposed: see `transposed_projections`.
    """

    cache: list[KeyValues]
    column: tf.Tensor
    transposed: Transposed | None

    def write(self, block: int, keys: tf.Tensor, values: tf.Tensor) -> KeyValues:
        """Put `[batch, heads, 1, head_dim]` into the column of a block's cache.

        The cache has no other reader, not even of its shape: so TensorFlow writes in place. An
        update by indices is as long under way as the whole cache is large.
        """
        begin, end = [0, 0, self.column, 0], [0, 0, self.column + 1, 0]
        written = [
            tf.raw_ops.TensorStridedSliceUpdate(
                input=old, begin=begin, end=end, strides=[1] * 4, value=new,
                begin_mask=0b1011, end_mask=0b1011,
            )
            for old, new in zip(self.cache[block], (keys, values), strict=True)
        ]  # fmt: skip
        return KeyValues(*written)


def create_backbone(config: GPT2Config) -> TFGPT2Model:
    """Build a `TFGPT2Model` with GPT-2's initial weights.

    Like transformers' TF class, but the projections back into the residual stream start smaller
    by `1/√(2·layers)`, as in GPT-2's paper and in the PyTorch class. Repeatable after
    `keras.utils.set_random_seed`.

    Raises:
        InputError: if the configuration asks for what the forward pass here does not compute.
    """
    _check_config(config)
    backbone = TFGPT2Model(config, name="transformer_model")
    backbone.build_in_name_scope()
    scale = 1.0 / math.sqrt(2 * config.n_layer)
    for block in backbone.transformer.h:
        for projection in (block.attn.c_proj, block.mlp.c_proj):
            projection.weight.assign(projection.weight * scale)
    return backbone


def _check_config(config: GPT2Config) -> None:
    if config.add_cross_attention:
        raise InputError(
            "add_cross_attention=True in the GPT-2 configuration is not supported: CausalLM is a "
            "decoder alone. Use a configuration without it."
        )
    if config.n_embd % config.n_head:
        raise InputError(
            f"the hidden size must be a multiple of the number of heads. Received: "
            f"n_embd={config.n_embd}, n_head={config.n_head}"
        )


def visible_keys(
    length: tf.Tensor | int, attention_mask: tf.Tensor | None, segment_ids: tf.Tensor | None
) -> tf.Tensor:
    """Which keys each query sees: real ones, not later than itself, of its own document.

    Args:
        length: number of positions.
        attention_mask: `<int>[batch, positions]`, 1 for real tokens; None where all are.
        segment_ids: `<int32>[batch, positions]`, a number of its own for each document of the
            row; None where a row is one document.

    Returns:
        `<bool>[batch or 1, queries, keys]`.
    """
    steps = tf.range(length)
    visible = (steps[:, None] >= steps[None, :])[None]
    if attention_mask is not None:
        visible &= tf.cast(attention_mask, tf.bool)[:, None, :]
    if segment_ids is not None:
        visible &= segment_ids[:, :, None] == segment_ids[:, None, :]
    return visible


def positions_of(visible: tf.Tensor) -> tf.Tensor:
    """Number the tokens: each stands after the earlier keys that it sees.

    So padding on the left is not counted, and positions restart with each packed document.

    Args:
        visible: `<bool>[batch, queries, keys]`.

    Returns:
        `<int32>[batch, queries]`. Padding gets positions too, which nothing reads.

    Example:
        mask 0 0 1 1 1 → 0 0 0 1 2; segments 1 1 1 2 2 → 0 1 2 0 1.
    """
    return tf.maximum(tf.reduce_sum(tf.cast(visible, tf.int32), axis=-1) - 1, 0)


def projections(backbone: TFGPT2Model) -> list[Any]:
    """The layers that adapters may stand in for, in order."""
    blocks = backbone.transformer.h
    return [p for b in blocks for p in (b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj)]


def hidden_states(
    backbone: TFGPT2Model,
    input_ids: tf.Tensor | None = None,
    *,
    inputs_embeds: tf.Tensor | None = None,
    attention_mask: tf.Tensor | None = None,
    position_ids: tf.Tensor | None = None,
    segment_ids: tf.Tensor | None = None,
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Run the whole of each row through the blocks.

    Args:
        backbone: its embeddings, blocks and last layer norm are used.
        input_ids: `<int32>[batch, positions]`; or give `inputs_embeds`.
        inputs_embeds: `<float>[batch, positions, hidden_dim]`, in place of the word embeddings;
            position embeddings are added to them.
        attention_mask: `<int>[batch, positions]`, 1 for real tokens, 0 for padding on any side.
        position_ids: `<int32>[batch or 1, positions]`. Without them padding is not counted and
            each segment starts at 0.
        segment_ids: `<int32>[batch, positions]`: tokens see only their own segment.
        training: whether dropout acts.
        dropout_seed: `<int64>[2]`; without one, dropout draws from `tf.random`.

    Returns:
        `<float>[batch, positions, hidden_dim]` after the last layer norm. At padding the numbers
        are finite and mean nothing.
    """
    states, _ = prefill(
        backbone,
        input_ids,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        position_ids=position_ids,
        segment_ids=segment_ids,
        training=training,
        dropout_seed=dropout_seed,
    )
    return states


def prefill(
    backbone: TFGPT2Model,
    input_ids: tf.Tensor | None = None,
    *,
    inputs_embeds: tf.Tensor | None = None,
    attention_mask: tf.Tensor | None = None,
    position_ids: tf.Tensor | None = None,
    segment_ids: tf.Tensor | None = None,
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
) -> tuple[tf.Tensor, list[KeyValues]]:
    """Do what `hidden_states` does and return each block's keys and values as well."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    main = backbone.transformer
    if inputs_embeds is None:
        inputs_embeds = _embed_words(main.wte, input_ids)
    length = inputs_embeds.shape[1] or tf.shape(inputs_embeds)[1]
    # A GPU would read zeros beyond the table of positions, and say nothing.
    tf.debugging.assert_less_equal(
        length, backbone.config.n_positions, message="rows are longer than the backbone's positions"
    )
    visible = visible_keys(length, attention_mask, segment_ids)
    if position_ids is None:
        position_ids = positions_of(visible)
    dropout = SeededDropout.when(training, dropout_seed)
    x = inputs_embeds + tf.cast(main.wpe(position_ids), inputs_embeds.dtype)
    return _through_blocks(backbone, x, visible[:, None], dropout)


def decode_step(
    backbone: TFGPT2Model,
    input_ids: tf.Tensor,
    position_ids: tf.Tensor,
    visible: tf.Tensor,
    cache: list[KeyValues],
    column: tf.Tensor,
    transposed: Transposed | None = None,
) -> tuple[tf.Tensor, list[KeyValues]]:
    """Run one more token of each row, over a cache that has room for it.

    Args:
        backbone: as in `hidden_states`.
        input_ids: `<int32>[batch, 1]`.
        position_ids: `<int32>[batch, 1]`.
        visible: `<bool>[batch, columns]`, the cache columns that may be seen, this token's own
            among them.
        cache: one `KeyValues` a block, `[batch, heads, columns, head_dim]`.
        column: `<int32>[]`, where this token's keys and values go.
        transposed: see `transposed_projections`; None to do without.

    Returns:
        hidden states `<float>[batch, 1, hidden_dim]` and the cache with the column filled.
    """
    main = backbone.transformer
    x = _embed_words(main.wte, input_ids)
    x += tf.cast(main.wpe(position_ids), x.dtype)
    step = _Step(cache, column, transposed)
    return _through_blocks(backbone, x, visible[:, None, None], None, step)


def transposed_projections(backbone: TFGPT2Model, rows: tf.Tensor, tokens: tf.Tensor) -> Transposed:
    """Copy the blocks' matrices for `decode_step`, once for all its tokens.

    For several rows, TensorFlow's batched product with a transposed matrix takes three quarters of
    the plain one's time (GPT-2 124M, 8 rows: 25 ms of 32 a token); the copies cost 41 ms.

    Args:
        backbone: its projections, in the order of `projections`.
        rows: `<int32>[]`, how many rows each step has.
        tokens: `<int32>[]`, how many steps there are at most.
    """
    layers = projections(backbone)

    def nothing() -> list[tf.Tensor]:
        return [tf.zeros([0, 0], layer.compute_dtype) for layer in layers]

    def copies() -> list[tf.Tensor]:
        return [
            tf.transpose(tf.cast(layer.weight, layer.compute_dtype))
            if isinstance(layer, TFConv1D)
            else empty
            for layer, empty in zip(layers, nothing(), strict=True)
        ]

    used = (rows >= _SEVERAL_ROWS) & (tokens >= _SEVERAL_TOKENS)
    return Transposed(used, tf.cond(used, copies, nothing))


def _embed_words(layer: Any, input_ids: tf.Tensor) -> tf.Tensor:
    """What the layer's own call gives.

    That looks up in the variable itself, and TensorFlow then copies the whole variable each time
    that something else reads it: the head does, once a token.
    """
    rows = tf.gather(tf.convert_to_tensor(layer.embeddings), input_ids)
    return tf.cast(rows, layer.compute_dtype)


def _through_blocks(
    backbone: TFGPT2Model,
    x: tf.Tensor,
    visible: tf.Tensor,
    dropout: SeededDropout | None,
    step: _Step | None = None,
) -> tuple[tf.Tensor, list[KeyValues]]:
    """`visible` is `<bool>[batch, 1, queries, keys]`."""
    main, config = backbone.transformer, backbone.config
    penalty = tf.where(visible, 0.0, HIDDEN_KEY)
    if dropout:
        x = dropout(x, config.embd_pdrop, site=0)
    key_values = []
    for i, block in enumerate(main.h):
        attended, present = _attention(
            block.attn, _norm(block.ln_1, x), penalty, config, i, dropout, step
        )
        x += attended
        x += _mlp(block.mlp, _norm(block.ln_2, x), config, i, dropout, step)
        key_values.append(present)
    return _norm(main.ln_f, x), key_values


def _attention(
    attention: Any,
    x: tf.Tensor,
    penalty: tf.Tensor,
    config: GPT2Config,
    index: int,
    dropout: SeededDropout | None,
    step: _Step | None,
) -> tuple[tf.Tensor, KeyValues]:
    """Multi-head self-attention of one block, `[batch, queries, hidden_dim]` → the same.

    Reference:
        Vaswani et al., 2017, arXiv:1706.03762.
    """
    length = x.shape[1] or tf.shape(x)[1]
    heads, head_dim = config.n_head, config.n_embd // config.n_head
    qkv = _project(attention.c_attn, x, dropout, 4 * index, step)
    if step is None:
        qkv = tf.reshape(qkv, [-1, length, 3, heads, head_dim])
        query, keys, values = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]), axis=0)
        present = KeyValues(keys, values)
    else:
        qkv = tf.reshape(qkv, [-1, 3, heads, 1, head_dim])
        query, *new = tf.unstack(qkv, axis=1)
        present = step.write(index, *new)
    query *= tf.cast(_score_scale(config, index), query.dtype)
    if step is None:
        scores = tf.matmul(query, present.keys, transpose_b=True)  # [batch, heads, queries, keys]
    else:
        scores = _vector_products(query, present.keys, adj_y=True)
    # float32 whatever the precision: half-precision softmax sums drift. A difference and no sum:
    # TensorFlow fuses a product and a sum into a oneDNN kernel that is ten times slower here.
    scores = tf.cast(scores, tf.float32) - penalty
    if step is None:
        kept, rate = None, config.attn_pdrop
        if dropout and rate > 0.0:
            kept = dropout.mask(tf.shape(scores), rate, site=3 * index + 1)
        mixed = tf.transpose(mix_values(scores, present.values, kept, rate), [0, 2, 1, 3])
    else:
        shares = tf.cast(tf.nn.softmax(scores), present.values.dtype)
        mixed = _vector_products(shares, present.values)
    mixed = tf.reshape(mixed, [-1, length, config.n_embd])
    mixed = _project(attention.c_proj, mixed, dropout, 4 * index + 1, step)
    if dropout:
        mixed = dropout(mixed, config.resid_pdrop, site=3 * index + 2)
    return mixed, present


def _norm(layer: Any, x: tf.Tensor) -> tf.Tensor:
    return layer_norm(x, layer.gamma, layer.beta, layer.epsilon)


def _project(
    layer: Any, x: tf.Tensor, dropout: SeededDropout | None, site: int, step: _Step | None = None
) -> tf.Tensor:
    """A projection, or an adapter around one, which has dropout of its own."""
    if dropout and isinstance(layer, LoRA):
        return layer(x, dropout_seed=dropout.seed_at(ADAPTER_SITES + site))
    if step is not None and isinstance(layer, TFConv1D):
        return _project_token(layer, x, site, step.transposed)
    return layer(x)


def _project_token(
    layer: TFConv1D, x: tf.Tensor, site: int, transposed: Transposed | None
) -> tf.Tensor:
    """What the layer's call gives for one token a row, without asking for shapes 48 times."""
    x = tf.reshape(x, [-1, layer.nx])

    def plain() -> tf.Tensor:
        return tf.matmul(x, tf.cast(layer.weight, x.dtype))

    def by_copy(copies: Transposed) -> tf.Tensor:
        matrix = tf.ensure_shape(copies.matrices[site], [layer.nf, layer.nx])
        return tf.raw_ops.BatchMatMulV2(x=x, y=matrix, adj_y=True)

    if transposed is None:
        flat = plain()
    else:
        flat = tf.cond(transposed.used, lambda: by_copy(transposed), plain)
    return tf.reshape(flat + tf.cast(layer.bias, x.dtype), [-1, 1, layer.nf])


def _vector_products(x: tf.Tensor, y: tf.Tensor, *, adj_y: bool = False) -> tf.Tensor:
    """`x @ y` for many small products of one row each, `[batch, heads, 1, …]`.

    `tf.matmul` becomes a oneDNN kernel that takes four times as long to begin with.
    """
    return tf.raw_ops.BatchMatMulV3(x=x, y=y, Tout=x.dtype, adj_y=adj_y)


def _score_scale(config: GPT2Config, index: int) -> float:
    scale = 1.0 / math.sqrt(config.n_embd // config.n_head) if config.scale_attn_weights else 1.0
    return scale / (index + 1) if config.scale_attn_by_inverse_layer_idx else scale


def _mlp(
    mlp: Any,
    x: tf.Tensor,
    config: GPT2Config,
    index: int,
    dropout: SeededDropout | None,
    step: _Step | None,
) -> tf.Tensor:
    activation = gelu_tanh if config.activation_function == "gelu_new" else mlp.act
    x = activation(_project(mlp.c_fc, x, dropout, 4 * index + 2, step))
    x = _project(mlp.c_proj, x, dropout, 4 * index + 3, step)
    return dropout(x, config.resid_pdrop, site=3 * index + 3) if dropout else x
