"""Models: one `keras.Model` a file, each a backbone and a head.

A name is imported when it is first asked for: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.models.causal_lm import CausalLM
    from tfllm.models.freezing import freeze_below

__all__ = ["CausalLM", "freeze_below"]

_HOMES = {"CausalLM": "causal_lm", "freeze_below": "freezing"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
