"""Each family learns a small set by heart."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import PretrainedConfig

from tfllm.models.backbones import classification_head, create_backbone, hidden_states
from tfllm.optimization import adamw

WIDTHS = "hidden_size intermediate_size dim hidden_dim n_embd d_model d_head d_inner embedding_size"


def wider(config: PretrainedConfig) -> PretrainedConfig:
    """Four times as wide, and begun with larger numbers: so small a model learns slowly else."""
    settings = config.to_dict()
    widths = {name: 4 * settings[name] for name in WIDTHS.split() if name in settings}
    return type(config)(**settings | widths | {"initializer_range": 0.1})


@pytest.mark.slow
def test_fifty_steps_on_64_examples(config):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    ids = rng.integers(6, 50, [64, 8]).astype(np.int32)
    mask = (np.arange(8) < rng.integers(3, 9, [64, 1])).astype(np.int32)
    labels = (ids[:, 1] >= 28).astype(np.int32)
    features = {"input_ids": ids, "attention_mask": mask}
    backbone = create_backbone(wider(config))
    head = classification_head(backbone, 2)
    variables = [*backbone.trainable_variables, *head.trainable_variables]
    optimizer = adamw(3e-3, variables, weight_decay=0.0, beta_2=0.99)

    def loss_of(seed: tf.Tensor | None) -> tf.Tensor:
        training = seed is not None
        hidden = hidden_states(backbone, features, training=training, dropout_seed=seed)
        logits = head(hidden, mask, training=training, dropout_seed=seed)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    @tf.function(autograph=False)
    def step(number: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(tf.stack([tf.constant(1, tf.int64), number]))
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        optimizer.apply_gradients(
            (tf.convert_to_tensor(g), v) for g, v in zip(gradients, variables, strict=True)
        )

    first = loss_of(None)
    for number in range(50):
        step(tf.constant(number, tf.int64))
    assert float(first) == pytest.approx(np.log(2), rel=0.3)
    assert float(loss_of(None)) < 0.1 * float(first)
