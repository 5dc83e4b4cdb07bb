"""A frozen projection with a small trainable change beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

__all__ = ["LoRA", "kernel_of"]


class LoRA(keras.layers.Layer):
    """Adds a product of two thin matrices to a projection: `base(x) + (α/r) · x·A·B`.

    Only A, `[in, r]`, and B, `[r, out]`, train; the projection's own weights are frozen. B starts
    at zero, so a new adapter changes nothing, not a bit.

    There is no `kernel` and no `weight` here on purpose: code that reads them past the layer would
    leave the change out, and must ask for `base_kernel` or `merged_kernel` instead.

    Example:
        >>> dense = keras.layers.Dense(3)
        >>> dense.build([None, 2])
        >>> LoRA(dense, rank=1, alpha=2)(tf.ones([4, 2])).shape
        TensorShape([4, 3])

    Reference:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
    """

    def __init__(
        self,
        base: keras.layers.Layer,
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        seed: tuple[int, int] = (0, 0),
        shared: bool = False,
    ) -> None:
        """Wrap a projection, and freeze it.

        Args:
            base: built; a Keras `Dense` or transformers' `TFConv1D`. Its name, its precision and
                its variables' names are kept.
            rank: r, the inner dimension of A·B.
            alpha: α; the change is scaled by α/r.
            dropout: share of the inputs of A, not of the projection, that is zeroed in training.
            seed: decides A's initial values, another pair for each layer.
            shared: whether others use the projection as well, so that no change may be folded in.
        """
        super().__init__(name=base.name, dtype=base.dtype_policy)
        self.base = base
        self.base.trainable = False
        self.rank = rank
        self.alpha = alpha
        self.scale = alpha / rank
        self.dropout = dropout
        self.shared = shared
        inputs, outputs = self.base_kernel.shape
        bound = 1.0 / np.sqrt(inputs)

        def uniform(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
            return tf.random.stateless_uniform(shape, seed, -bound, bound, dtype)

        with tf.name_scope(self.base_kernel.name.rpartition("/")[0] + "/"):
            self.lora_a = self.add_weight("lora_a", [inputs, rank], initializer=uniform)
            self.lora_b = self.add_weight("lora_b", [rank, outputs], initializer="zeros")
        self.built = True

    @property
    def base_kernel(self) -> tf.Variable:
        """The frozen matrix, `<float>[in, out]`."""
        return kernel_of(self.base)

    def call(self, inputs: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Project `<float>[…, in]` to `<float>[…, out]`.

        Args:
            inputs: the projection's.
            dropout_seed: `<int64>[2]`, another for each step and layer, so that the same dropout
                can be drawn again; without one there is none.
        """
        x = inputs
        if dropout_seed is not None and self.dropout:
            x = tf.nn.experimental.stateless_dropout(
                x, self.dropout, dropout_seed, rng_alg="philox"
            )
        projected = self.base(inputs)
        # One flat matrix product each: a batched one sums its gradients far more slowly.
        x = tf.reshape(x, [-1, self.lora_a.shape[0]])
        change = tf.matmul(tf.matmul(x, self.lora_a) * self.scale, self.lora_b)
        return projected + tf.reshape(change, tf.shape(projected))

    def merged_kernel(self) -> np.ndarray:
        """Return `base_kernel + (α/r) · A·B`, computed in float64 and rounded once."""
        kernel, a, b = (
            v.numpy().astype(np.float64) for v in (self.base_kernel, self.lora_a, self.lora_b)
        )
        return (kernel + self.scale * (a @ b)).astype(self.base_kernel.dtype.as_numpy_dtype)

    def merge(self) -> keras.layers.Layer:
        """Fold the change into the projection, and return the projection.

        B becomes zero, so a graph that was traced with this layer computes the same as before.
        """
        self.base_kernel.assign(self.merged_kernel())
        self.lora_b.assign(tf.zeros_like(self.lora_b))
        return self.base


def kernel_of(projection: keras.layers.Layer) -> tf.Variable:
    """Return a projection's own matrix, `<float>[in, out]`, with an adapter around it or none."""
    if isinstance(projection, LoRA):
        return projection.base_kernel
    return projection.kernel if hasattr(projection, "kernel") else projection.weight
