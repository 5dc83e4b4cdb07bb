"""The head of PyTorch's `AutoModelForSequenceClassification`, whatever the family."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras
from transformers import TFPreTrainedModel
from transformers.activations_tf import get_tf_activation

from tfllm.errors import InputError
from tfllm.layers.dropout import SeededDropout
from tfllm.models.backbones.families import family_of
from tfllm.models.backbones.family import follow

__all__ = ["ClassificationHead", "classification_head", "drop_pooler", "head_dropout"]

# Where this head's dropout is drawn; the backbone's and the adapters' places lie below.
_SITES = (450_001, 450_002)


class ClassificationHead(keras.layers.Layer):
    """States of a row's tokens → logits, as PyTorch's class of the family computes them.

    The token that stands for the row, then a hidden layer (the backbone's pooler, a layer of the
    head's own, or none), dropout and a projection.
    """

    def __init__(self, backbone: TFPreTrainedModel, num_labels: int, dropout: float) -> None:
        """Build the head's own layers; `classification_head` is the usual way."""
        super().__init__(name="classification_head", dtype="float32")
        family, config = family_of(backbone), backbone.config
        self.names, self.summary, self.rate = family.head, family.summary, dropout
        self._activation = None
        if self.names.activation is not None:
            self._activation = get_tf_activation(self.names.activation)
        # Within a function, because the pooler is the backbone's and not this layer's.
        self._pooler = None
        if family.pooler is not None:
            attributes, main = family.pooler.attributes, family.main_layer(backbone)
            if getattr(main, "pooler", self) is None:
                raise InputError(
                    "the backbone has no pooler any more, because a head for tags or answers was "
                    "put on it before. Make classifiers first"
                )
            self._pooler = lambda: follow(main, attributes)
            main.pooler_is_used = True

        def dense(name: str, width: int, bias: bool = True) -> keras.layers.Dense:
            layer = keras.layers.Dense(
                width,
                use_bias=bias,
                kernel_initializer=keras.initializers.TruncatedNormal(
                    stddev=config.initializer_range
                ),
                name=name.rpartition(".")[2],
                dtype="float32",
            )
            with tf.name_scope(layer.name):
                layer.build([None, config.hidden_size])
            return layer

        with tf.name_scope(self.name):
            self.dense = None
            if self.names.dense is not None:
                self.dense = dense(self.names.dense, config.hidden_size)
            self.out = dense(self.names.out, num_labels, self.names.out_bias)
        self.built = True

    @property
    def heads(self) -> dict[str, keras.layers.Dense]:
        """The head's own layers by PyTorch's names, for `pretrained_tensors` and `load_heads`."""
        if self.dense is None or self.names.dense is None:
            return {self.names.out: self.out}
        return {self.names.dense: self.dense, self.names.out: self.out}

    def call(
        self,
        hidden: tf.Tensor,
        attention_mask: tf.Tensor | None = None,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Compute the logits.

        Args:
            hidden: `<float>[batch, tokens, hidden_dim]`, the backbone's last states.
            attention_mask: `<int>[batch, tokens]`, 1 for real tokens; None where all are.
            training: whether dropout acts.
            dropout_seed: `<int64>[2]`, another for each step.

        Returns:
            `<float32>[batch, num_labels]`.
        """
        dropout = SeededDropout.when(training, dropout_seed)
        x = tf.cast(self._summary_of(hidden, attention_mask), tf.float32)
        if dropout and self.names.dropout_first:
            x = dropout(x, self.rate, _SITES[0])
        layer = self.dense if self.dense is not None else self._pooler and self._pooler()
        if layer is not None and self._activation is not None:
            x = self._activation(_affine(layer, x))
        if dropout:
            x = dropout(x, self.rate, _SITES[1])
        return _affine(self.out, x)

    def _summary_of(self, hidden: tf.Tensor, attention_mask: tf.Tensor | None) -> tf.Tensor:
        """`<float>[batch, hidden_dim]` of the first token, or of the last real one."""
        if self.summary == "first":
            return hidden[:, 0]
        if attention_mask is None:
            return hidden[:, -1]
        steps = tf.range(tf.shape(attention_mask)[1])
        last = tf.reduce_max(tf.where(tf.cast(attention_mask, tf.bool), steps, 0), axis=1)
        return tf.gather(hidden, last, batch_dims=1)


def classification_head(
    backbone: TFPreTrainedModel, num_labels: int, *, dropout: float | None = None
) -> ClassificationHead:
    """Create the head that PyTorch's `…ForSequenceClassification` of the family has.

    Args:
        backbone: built.
        num_labels: width of the logits.
        dropout: share that is zeroed before the projection; None for what the configuration says.
    """
    rate = head_dropout(backbone) if dropout is None else dropout
    return ClassificationHead(backbone, num_labels, rate)


def head_dropout(backbone: TFPreTrainedModel) -> float:
    """Read the dropout that the configuration wants before a head's projection."""
    for field in family_of(backbone).head.dropouts:
        rate = getattr(backbone.config, field, None)
        if rate is not None:
            return float(rate)
    return 0.0


def drop_pooler(backbone: TFPreTrainedModel) -> None:
    """Take away the hidden layer that only a classification head uses, if there is one.

    PyTorch's classes for tags and for answers have none, and what has no gradient would only decay.
    Where a classifier stands on the same backbone, it stays.
    """
    family = family_of(backbone)
    main = family.main_layer(backbone)
    if family.pooler is not None and not getattr(main, "pooler_is_used", False):
        main.pooler = None


def _affine(layer: Any, x: tf.Tensor) -> tf.Tensor:
    """`<float32>[batch, in]` → `<float32>[batch, out]`, without a layer's activation."""
    x = tf.matmul(x, tf.cast(layer.kernel, tf.float32))
    return x if layer.bias is None else x + tf.cast(layer.bias, tf.float32)
