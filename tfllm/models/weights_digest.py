"""What tells two models of one kind apart: their weights."""

from __future__ import annotations

import hashlib

import tf_keras as keras

__all__ = ["digest_of_weights"]


def digest_of_weights(model: keras.Model) -> str:
    """SHA-256, in hexadecimal, of all weights in their order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = weight.numpy()
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
