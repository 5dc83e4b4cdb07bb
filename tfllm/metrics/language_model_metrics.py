"""What a mean loss per token stands for, in numbers that can be held against published ones."""

from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Iterable

__all__ = ["bits_per_byte", "gzip_bits_per_byte", "language_model", "perplexity"]


def language_model(mean_loss: float, *, tokens: int, text_bytes: int) -> dict[str, float]:
    """Give the numbers that a mean loss per token stands for.

    Args:
        mean_loss: nats per target.
        tokens: number of targets, those that end documents included.
        text_bytes: UTF-8 bytes of the same text.

    Returns:
        `loss`, `perplexity` (per token) and `bits_per_byte`.
    """
    return {
        "loss": mean_loss,
        "perplexity": perplexity(mean_loss),
        "bits_per_byte": bits_per_byte(mean_loss, tokens, text_bytes),
    }


def perplexity(mean_loss: float) -> float:
    """Turn a mean loss per token, in nats, into perplexity per token; at most the largest float."""
    return math.exp(mean_loss) if mean_loss < 709 else sys.float_info.max


def bits_per_byte(mean_loss: float, tokens: int, text_bytes: int) -> float:
    """Turn a mean loss per token into bits per byte of text, which no vocabulary changes.

    Args:
        mean_loss: nats per target.
        tokens: number of targets, those that end documents included.
        text_bytes: UTF-8 bytes of the same text.

    Example:
        a loss of ln 2 per token and tokens of four bytes: 0.25.
    """
    return mean_loss * tokens / text_bytes / math.log(2)


def gzip_bits_per_byte(documents: Iterable[str]) -> float:
    """Bits per byte of `gzip -9` on the documents, a line end between them: the bar to be under."""
    data = "\n".join(documents).encode()
    return 8 * len(gzip.compress(data, compresslevel=9, mtime=0)) / len(data)
