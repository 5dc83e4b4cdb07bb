"""Prompts with completions, encoded and packed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tfllm.data.array_building import build_array_store
from tfllm.data.encoders.completion_encoder import CompletionEncoder
from tfllm.data.pipeline_packed_rows import PackedRows
from tfllm.errors import InputError

__all__ = ["completion_batches"]


def completion_batches(
    examples: Iterable[Mapping[str, Any]],
    encoder: CompletionEncoder,
    global_batch_size: int,
    seed: int | None = None,
    *,
    part: str = "--train",
) -> PackedRows:
    """Tokenize examples, once for all runs, and pack them into rows of the encoder's length.

    Args:
        examples: see `build_array_store`.
        encoder: of the template.
        global_batch_size: packed rows of a step.
        seed: shuffles; None for a fixed order.
        part: what the examples are, for the message.

    Raises:
        InputError: see `build_array_store`; or if no example is left.
    """
    store = build_array_store(examples, encoder)
    if not len(store):
        left_out = store.manifest.counts["examples_left_out"]
        raise InputError(
            f"{part}: nothing is left to learn, since {left_out:,} examples are longer than "
            f"{encoder.max_tokens} tokens or have no completion. Give a larger --sequence_length, "
            "or in a dialogue another --speaker"
        )
    return PackedRows(
        store,
        sequence_length=encoder.max_tokens,
        global_batch_size=global_batch_size,
        seed=seed,
        end_id=encoder.end_id,
    )
