"""What a model that always guesses the same token would get right."""

from __future__ import annotations

import numpy as np

from tfllm.data.pipeline_masked_pairs import MaskedPairs
from tfllm.data.pipeline_masked_rows import MaskedRows

__all__ = ["unigram_accuracy"]

_TOKENS_AT_ONCE = 1 << 24


def unigram_accuracy(
    train: MaskedRows | MaskedPairs, validation: MaskedRows | MaskedPairs
) -> float:
    """Share of the masked tokens that are the commonest token of the training text.

    The least that a masked language model must beat.

    Args:
        train: whose commonest token is guessed; special ones don't count.
        validation: whose masked tokens are to be guessed, in one pass.
    """
    guess = _commonest(train)
    right = masked = 0
    for step in range(validation.steps_per_epoch):
        _, targets, weights = validation.batch(step)
        counted = weights["masked_lm"] > 0
        right += int(np.count_nonzero(targets["masked_lm"][counted] == guess))
        masked += int(np.count_nonzero(counted))
    return right / max(1, masked)


def _commonest(batches: MaskedRows | MaskedPairs) -> int:
    ids = batches.store.values("input_ids")
    counts = np.zeros(batches.masking.vocabulary_size, np.int64)
    for first in range(0, len(ids), _TOKENS_AT_ONCE):
        counts += np.bincount(ids[first : first + _TOKENS_AT_ONCE], minlength=len(counts))
    counts[batches.masking.is_special(np.arange(len(counts)))] = -1
    return int(counts.argmax())
