"""Negatives of all replicas: two devices do what one does with the same batch."""

import textwrap

import numpy as np
import tensorflow as tf
from test_step import run_program
from transformers import BertConfig

CONFIG = BertConfig(
    vocab_size=30,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=8,
    initializer_range=0.2,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def batches(steps: int) -> tf.data.Dataset:
    """Eight queries with three documents each; the last three rows have no weight."""
    rng = np.random.default_rng(3)
    features = {"query": rng.integers(1, 30, (steps, 8, 4))}
    features["document"] = rng.integers(1, 30, (steps, 8, 3, 6))
    named = {f"{name}_input_ids": ids.astype(np.int32) for name, ids in features.items()}
    named |= {
        name.replace("input_ids", "attention_mask"): np.ones_like(v) for name, v in named.items()
    }
    # Few documents, so that many come again on the other device.
    named["document_rows"] = rng.integers(0, 12, (steps, 8, 3)).astype(np.int32)
    named["relevant_rows"] = rng.integers(-1, 12, (steps, 8, 2)).astype(np.int32)
    weights = np.tile([1.0, 2.0, 1.0, 0.5, 1.0, 0.0, 0.0, 0.0], (steps, 1)).astype(np.float32)
    targets = np.zeros((steps, 8), np.int32)
    return tf.data.Dataset.from_tensor_slices((named, targets, weights))


PROGRAM = textwrap.dedent(
    """
    import sys
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    sys.path.insert(0, sys.argv[1])
    from test_gathered_negatives import CONFIG, batches
    from test_step import Recorder
    from tfllm.models import DualEncoder, TextEmbedder

    cpu = tf.config.list_physical_devices("CPU")[0]
    config = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [config] * 2)
    data = batches(4)
    keras.utils.set_random_seed(0)
    tower = TextEmbedder.from_config(CONFIG).get_weights()

    def run(devices):
        mirrored = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
        strategy = mirrored if devices > 1 else tf.distribute.get_strategy()
        with strategy.scope():
            embedder = TextEmbedder.from_config(CONFIG)
            model = DualEncoder(embedder, temperature=0.05, false_negative_margin=0.3)
            embedder.set_weights(tower)
            model.compile(Recorder(0.0))  # every batch at the same weights
        gradients, losses = [], []
        class Note(keras.callbacks.Callback):
            def on_train_batch_end(self, step, logs):
                losses.append(float(logs["step_loss"]))
                gradients.append(self.model.optimizer.gradients())
        model.fit(data, verbose=0, callbacks=[Note()])
        losses.append(model.evaluate(data, verbose=0))
        return np.array(losses), np.array(gradients)

    (losses, gradients), found = run(1), run(2)
    np.testing.assert_allclose(found[0], losses, rtol=1e-5)
    errors = np.linalg.norm(found[1] - gradients, axis=1) / np.linalg.norm(gradients, axis=1)
    assert losses.min() > 0.1 and errors.max() <= 1e-6, (losses, errors)
    print(f"{len(errors)} steps: {errors.max():.1e}")
    """
)


def test_two_devices_equal_one(tmp_path):
    out = run_program(PROGRAM, tmp_path)
    print(out)
    assert out.startswith("4 steps")
