"""The heads of PyTorch's classes for masked pretraining, whatever the family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras
from transformers import PretrainedConfig, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.layers.dropout import SeededDropout
from tfllm.models.backbones.families import family_of
from tfllm.models.backbones.family import follow
from tfllm.models.backbones.post_norm import activate, norm, project

__all__ = ["MaskedHead", "PairHead", "native_pair_objective", "torch_tensors"]

# Where the pair head's dropout is drawn; see `backbones.classification_head`.
_SITE = 450_003


class _Names(NamedTuple):
    """PyTorch's names of a family's heads.

    Attributes:
        dense: of the transform.
        norm: after it.
        bias: of the words.
        decoder: the words' matrix, where it is not the word embedding.
        activation: of the transform; None for the configuration's.
        norm_epsilon: None for the configuration's.
        pair: the projection that says whether a pair belongs together, if there is one.
        pair_objective: what the family's own checkpoints learnt with it.
        pair_dropouts: fields of the configuration with the dropout before it, first that is there.
    """

    dense: str
    norm: str
    bias: str
    decoder: str
    activation: str | None = None
    norm_epsilon: float | None = None
    pair: str | None = None
    pair_objective: str | None = None
    pair_dropouts: tuple[str, ...] = ()


_ROBERTA = _Names(
    "lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder.weight", "gelu"
)
_HEADS = {
    "bert": _Names(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
        pair="cls.seq_relationship",
        pair_objective="next_sentence",
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": _Names(
        "vocab_transform",
        "vocab_layer_norm",
        "vocab_projector.bias",
        "vocab_projector.weight",
        norm_epsilon=1e-12,
    ),
    "albert": _Names(
        "predictions.dense",
        "predictions.LayerNorm",
        "predictions.bias",
        "predictions.decoder.weight",
        pair="sop_classifier.classifier",
        pair_objective="sentence_order",
        pair_dropouts=("classifier_dropout_prob",),
    ),
    "electra": _Names(
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head.bias",
        "generator_lm_head.weight",
        "gelu",
    ),
}
# What else the words' bias is called in files; where both are there, this one is added.
_OTHER_BIAS = {
    "cls.predictions.bias": "cls.predictions.decoder.bias",
    "lm_head.bias": "lm_head.decoder.bias",
    "predictions.bias": "predictions.decoder.bias",
}


class MaskedHead(keras.layers.Layer):
    """States of masked tokens → logits of all words, as PyTorch's class of the family has them.

    A hidden layer, a layer norm, and a projection by the word embedding and a bias. All of it in
    float32.
    """

    def __init__(self, backbone: TFPreTrainedModel) -> None:
        """Build a new head.

        Raises:
            InputError: if the family has none.
        """
        super().__init__(name="masked_head", dtype="float32")
        self.names, config = _names_of(backbone), backbone.config
        family = family_of(backbone)
        main, words = family.main_layer(backbone), family.words
        # Within a function, because the table is the backbone's and not this layer's.
        self._embedding = lambda: follow(main, words)
        self._activation = self.names.activation or family.setting(config, "activation")
        size, width = (int(n) for n in self._embedding().shape)
        epsilon = self.names.norm_epsilon or config.layer_norm_eps
        with tf.name_scope(self.name):
            self.dense = _dense("dense", config.hidden_size, width, config)
            self.norm = keras.layers.LayerNormalization(
                epsilon=epsilon, name="LayerNorm", dtype="float32"
            )
            with tf.name_scope("LayerNorm"):
                self.norm.build([None, width])
            self.bias = self.add_weight(name="bias", shape=[size], initializer="zeros")
            self.decoder = None
            if not config.tie_word_embeddings:
                start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
                self.decoder = self.add_weight("decoder", shape=[size, width], initializer=start)
        self.built = True

    @property
    def heads(self) -> dict[str, keras.layers.Layer | tf.Variable]:
        """The head's weights by PyTorch's names, for `pretrained_tensors` and `load_heads`."""
        heads: dict[str, keras.layers.Layer | tf.Variable] = {
            self.names.dense: self.dense,
            self.names.norm: self.norm,
            self.names.bias: self.bias,
        }
        return heads if self.decoder is None else heads | {self.names.decoder: self.decoder}

    @property
    def table(self) -> tf.Variable:
        """The words' matrix, `<float32>[words, dim]`."""
        return self._embedding() if self.decoder is None else self.decoder

    def transform(self, states: tf.Tensor) -> tf.Tensor:
        """Make what the words are compared with: `<float>[rows, hidden_dim]` → `[rows, dim]`."""
        x = project(self.dense, tf.cast(states, tf.float32), None, site=0)
        return norm(self.norm, activate(self._activation, x, None))

    def call(self, states: tf.Tensor) -> tf.Tensor:
        """Compute all words' logits: `<float>[rows, hidden_dim]` → `<float32>[rows, words]`."""
        table = tf.cast(self.table, tf.float32)
        return tf.matmul(self.transform(states), table, transpose_b=True) + self.bias


class PairHead(keras.layers.Layer):
    """First tokens' states → two logits: 0 for texts that belong together as they stand, or 1.

    The backbone's pooler, and a projection; ALBERT drops out between the two.
    """

    def __init__(self, backbone: TFPreTrainedModel) -> None:
        """Build a new projection on the backbone's pooler.

        Raises:
            InputError: if the family has no head for pairs.
        """
        super().__init__(name="pair_head", dtype="float32")
        names, family, config = _names_of(backbone), family_of(backbone), backbone.config
        pooler, main = family.pooler, family.main_layer(backbone)
        if names.pair is None or pooler is None:
            raise InputError(
                f"{family.name} has no head for pairs of sentences. Leave next_sentence and "
                "sentence_order out, or take a BERT or an ALBERT"
            )
        self._name_in_files, attributes = names.pair, pooler.attributes
        self._pooler = lambda: follow(main, attributes)
        rates = (getattr(config, field, None) for field in names.pair_dropouts)
        self._rate = float(next((rate for rate in rates if rate is not None), 0.0))
        with tf.name_scope(self.name):
            self.out = _dense("out", config.hidden_size, 2, config)
        self.built = True

    @property
    def heads(self) -> dict[str, keras.layers.Layer]:
        """The projection by PyTorch's name."""
        return {self._name_in_files: self.out}

    def call(
        self, hidden: tf.Tensor, training: bool = False, dropout_seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Compute the logits.

        Args:
            hidden: `<float>[batch, tokens, hidden_dim]`.
            training: whether dropout acts.
            dropout_seed: `<int64>[2]`.

        Returns:
            `<float32>[batch, 2]`.
        """
        dropout = SeededDropout.when(training, dropout_seed)
        first = tf.cast(hidden[:, 0], tf.float32)
        pooled = tf.tanh(project(self._pooler(), first, None, site=0))
        if dropout:
            pooled = dropout(pooled, self._rate, _SITE)
        return project(self.out, pooled, None, site=0)


def native_pair_objective(backbone: TFPreTrainedModel) -> str | None:
    """Say what the family's own checkpoints learnt of pairs, if they did."""
    return _names_of(backbone).pair_objective


def torch_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bring heads' names to PyTorch's: Keras's, and other names of the words' bias.

    Args:
        tensors: what `backbones.reading.read_tensors` gives.
    """
    named = dict(_torch_named(name, array) for name, array in tensors.items())
    for name, other in _OTHER_BIAS.items():
        if other in named:
            named[name] = named[other]
    return named


def _torch_named(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """`mlm___cls/predictions/transform/dense/kernel` → `cls.predictions…dense.weight`, turned."""
    if "/" not in name:
        return name, array
    stem, _, last = re.sub(r"(^|/)[^/]*___", r"\1", name).replace("/", ".").rpartition(".")
    kept = {"gamma": "weight", "beta": "bias", "kernel": "weight"}.get(last, last)
    return f"{stem}.{kept}", array.T if last == "kernel" else array


def _names_of(backbone: TFPreTrainedModel) -> _Names:
    family = family_of(backbone)
    names = _HEADS.get(backbone.config.model_type)
    if names is None:
        raise InputError(
            f"{family.name} has no head for masked words. Take one of: {', '.join(_HEADS)}"
        )
    return names


def _dense(name: str, inputs: int, outputs: int, config: PretrainedConfig) -> Any:
    start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
    layer = keras.layers.Dense(outputs, kernel_initializer=start, name=name, dtype="float32")
    with tf.name_scope(name):
        layer.build([None, inputs])
    return layer
