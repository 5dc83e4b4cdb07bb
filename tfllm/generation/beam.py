"""Settings of a beam search."""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

__all__ = ["Beam"]


class Beam(NamedTuple):
    """How a beam search goes; it means what transformers means by it.

    A continuation scores the sum of its tokens' log-likelihoods, its end token's among them,
    divided by `length ** length_penalty`. The length counts new tokens and the end token, and not
    the prompt.

    Attributes:
        num_beams: hypotheses that are kept for each row.
        length_penalty: a number for all rows or a tensor `[batch]`; above 0 favours long
            continuations, 0 compares plain sums.
        num_returned: continuations given for each row, best first; at most `num_beams`.
        early_stopping: when a row ends. False: as soon as its best hypothesis, at the length that
            it has, is no better than the worst of `num_beams` finished ones. True: as soon as
            there are `num_beams` finished ones. "never": not before no hypothesis can become
            better at any length.

    Reference:
        length penalty as in Wu et al., 2016, arXiv:1609.08144, without its constants.
    """

    num_beams: int
    length_penalty: float | tf.Tensor = 1.0
    num_returned: int = 1
    early_stopping: bool | Literal["never"] = False
