"""What tells two models of one kind apart: their weights, and how they are used."""

from __future__ import annotations

import hashlib
import json

import tf_keras as keras

__all__ = ["digest_of_model"]

# They say where a model came from, and decide no number.
_FREE = frozenset(
    {"_name_or_path", "architectures", "torch_dtype", "dtype", "transformers_version"}
)


def digest_of_model(model: keras.Model) -> str:
    """SHA-256, in hexadecimal, of all weights in their order and of the model's settings.

    Equal weights are different models with another pooling or number of attention heads. Where a
    model lies, and which version wrote it, does not count.

    Args:
        model: whose `get_config` gives its settings.
    """
    settings = {name: value for name, value in model.get_config().items() if name not in _FREE}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for weight in model.weights:
        array = weight.numpy()
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
