"""Models: one `keras.Model` a file, each a backbone and a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfllm.models.causal_lm import CausalLM

__all__ = ["CausalLM"]


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to import, so it is imported with the first model that is named.
    if name == "CausalLM":
        from tfllm.models.causal_lm import CausalLM

        return CausalLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
