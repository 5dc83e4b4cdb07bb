"""Floating-point operations: what a model needs, and what a device can do."""

from __future__ import annotations

import time

import tensorflow as tf
import tf_keras as keras

__all__ = ["flops_per_token", "measured_peak_flops"]

_SIZES = {"CPU": 1536, "GPU": 8192}
_REPEATS = 5


def flops_per_token(model: keras.Model, sequence_length: int) -> float:
    """Operations of a forward and a backward pass through a transformer, for one position.

    Each weight of a matrix product costs a multiplication and an addition forward and twice that
    backward: 6. Attention adds `12 · layers · width · positions`, as if every position saw every
    other. What is looked up (embeddings) costs nothing, but a tied head is a product all the same.

    Args:
        model: with `config` of a GPT-2 or BERT.
        sequence_length: positions of a row.

    Returns:
        the number, for a model that trains as a whole: frozen weights would cost less.

    Reference:
        Chowdhery et al., PaLM, 2022, arXiv:2204.02311, appendix B.
    """
    config = model.config
    matrices = [v for v in model.weights if sum(size > 1 for size in v.shape) >= 2]
    looked_up = [
        v for v in matrices if "embedding" in v.name or "/wpe/" in v.name or "/wte/" in v.name
    ]
    products = sum(int(tf.size(v)) for v in matrices) - sum(int(tf.size(v)) for v in looked_up)
    if hasattr(config, "num_hidden_groups"):  # ALBERT's blocks share their weights
        products *= config.num_hidden_layers // config.num_hidden_groups
    if getattr(config, "tie_word_embeddings", False) and hasattr(model, "lm_head"):
        products += config.vocab_size * config.hidden_size
    attention = 12 * config.num_hidden_layers * config.hidden_size * sequence_length
    return 6.0 * products + attention


def measured_peak_flops(dtype: str = "float32") -> float:
    """Operations per second of this machine's matrix product, the best of a few, all GPUs counted.

    Args:
        dtype: what is multiplied: `float32`, `bfloat16` or `float16` (on a GPU; a processor's
            float32 stands in for it).
    """
    devices = tf.config.list_logical_devices("GPU")
    kind = "GPU" if devices else "CPU"
    if not devices and dtype == "float16":
        dtype = "float32"  # processors have no fast product of float16
    size = _SIZES[kind]
    with tf.device(devices[0].name if devices else "CPU:0"):
        matrix = tf.cast(tf.random.stateless_normal([size, size], [0, 0]), dtype)
        multiply = tf.function(lambda a: tf.linalg.matmul(a, a), autograph=False)
        _seconds(multiply, matrix)
        best = min(_seconds(multiply, matrix) for _ in range(_REPEATS))
    return 2.0 * size**3 / best * max(1, len(devices))


def _seconds(multiply: tf.types.experimental.GenericFunction, matrix: tf.Tensor) -> float:
    start = time.perf_counter()
    multiply(matrix)[0, 0].numpy()  # waits for the result
    return time.perf_counter() - start
