"""Which tokens speak for a classifier's answer, by integrated gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfllm.models.backbones import word_embeddings

if TYPE_CHECKING:
    from tfllm.models.text_classifier import TextClassifier

__all__ = ["attribute"]


# AutoGraph would take longer to read this code than TensorFlow takes to trace it.
@tf.autograph.experimental.do_not_convert
def attribute(
    model: TextClassifier,
    features: Mapping[str, tf.Tensor],
    target_class: tf.Tensor | int,
    *,
    steps: int = 32,
) -> tf.Tensor:
    """Share the evidence for a class among the tokens of each row.

    The evidence `f` is what `TextClassifier.evidence` says. It is followed along the straight way
    from a row of padding embeddings, `x₀`, to the row's own, `x`; a token's share is

        Σ over dimensions of (x − x₀) · ∫ ∂f/∂x (x₀ + a·(x − x₀)) da, a from 0 to 1.

    A row's shares add up to `f(x) − f(x₀)`, as far as the integral is exact: it is summed at
    Gauss and Legendre's points. Positions and token types are the same all the way.

    Works in Python and in a `tf.function`, which is much faster for more than a few rows.

    Args:
        model: a classifier.
        features: as for the model; padding gets 0.
        target_class: `<int32>[batch]`, or one for all rows; 0 for regression.
        steps: points of the way; each costs a forward and a backward pass.

    Returns:
        `<float32>[batch, tokens]`, in the units of the evidence: above 0 where a token speaks for
        the class, below where against it.

    Reference:
        Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, 2017,
        arXiv:1703.01365.
    """
    input_ids = tf.convert_to_tensor(features["input_ids"])
    embedded = tf.cast(word_embeddings(model.backbone, input_ids), tf.float32)
    change = embedded - _baseline(model, input_ids)
    places, shares = _quadrature(steps)

    def next_point(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        point = embedded - (1.0 - tf.gather(places, i)) * change
        return i + 1, total + tf.gather(shares, i) * _slope(model, features, point, target_class)

    _, slope = tf.while_loop(
        lambda i, _: i < steps,
        next_point,
        (tf.constant(0), tf.zeros_like(embedded)),
        parallel_iterations=1,
    )
    found = tf.reduce_sum(change * slope, axis=-1)
    mask = features.get("attention_mask")
    return found if mask is None else tf.where(tf.cast(mask, tf.bool), found, 0.0)


def _baseline(model: TextClassifier, input_ids: tf.Tensor) -> tf.Tensor:
    """Embed padding, `<float32>[1, 1, dim]`; zeros where the backbone has no padding token."""
    pad_id = model.config.pad_token_id
    row = word_embeddings(model.backbone, tf.fill([1, 1], pad_id if pad_id is not None else 0))
    return tf.cast(row, tf.float32) if pad_id is not None else tf.zeros_like(row, tf.float32)


def _quadrature(steps: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Points in [0, 1] and how much each counts, `<float32>[steps]` each."""
    places, shares = np.polynomial.legendre.leggauss(steps)
    return (
        tf.constant((places + 1.0) / 2.0, tf.float32),
        tf.constant(shares / 2.0, tf.float32),
    )


def _slope(
    model: TextClassifier,
    features: Mapping[str, tf.Tensor],
    point: tf.Tensor,
    target_class: tf.Tensor | int,
) -> tf.Tensor:
    """The evidence's gradient by the embeddings, `<float32>[batch, tokens, dim]`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(point)
        logits = model.forward(features, inputs_embeds=point)
        evidence = model.evidence(logits, target_class)
    return tape.gradient(evidence, point)
