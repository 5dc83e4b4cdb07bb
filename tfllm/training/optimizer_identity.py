"""What of an optimizer must be the same when a run is resumed."""

from __future__ import annotations

import json

import tf_keras as keras

__all__ = ["optimizer_identity"]

# They name an object or a device and decide no number.
_FREE = {"name", "is_legacy_optimizer", "jit_compile", "multipliers"}


def optimizer_identity(optimizer: keras.optimizers.Optimizer) -> dict[str, str]:
    """Name each setting of a Keras optimizer, and its value as JSON.

    Example:
        Adam → `{"optimizer": "Adam", "optimizer's learning_rate": "0.001", …}`
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    facts = {"optimizer": type(inner).__name__}
    for name, value in inner.get_config().items():
        if name not in _FREE:
            facts[f"optimizer's {name}"] = json.dumps(value, sort_keys=True, default=str)
    multipliers = getattr(inner, "multipliers", None)
    if multipliers is not None:  # one for each variable: their kinds say enough
        kinds = sorted(set(multipliers))
        facts["layer-wise learning rates"] = json.dumps([round(kind, 12) for kind in kinds])
    return facts
