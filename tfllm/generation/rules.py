"""What a continuation must, may not, or should rather not contain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

__all__ = ["Rules"]


class Rules(NamedTuple):
    """Rules about the tokens of each row; a number for all rows or a tensor `[batch]`.

    They change the logits in the order of the attributes, before temperature and filters. What
    none of the rules allows is never chosen: a row in which every word is forbidden ends there,
    as if its end token had come.

    Attributes:
        repetition_penalty: the logits of tokens that the prompt or the continuation contains are
            divided by it where positive and multiplied where negative; 1 for none.
        presence_penalty: taken from the logits of tokens that the continuation contains; 0 for
            none.
        frequency_penalty: taken from their logits once for each time that it contains them; 0 for
            none. These two don't look at the prompt, as in OpenAI's interface.
        no_repeat_ngram_size: no run of so many tokens occurs twice in prompt and continuation; 0
            for no such rule.
        bad_words: sequences of ids that the continuation doesn't complete, `[sequences, (ids)]`,
            for all rows; the first ids of one may stand in the prompt.
        min_new_tokens: the end token is not chosen before so many others; stop strings are not
            held back.
        forced_prefix: ids that the continuation begins with, whatever the other rules say:
            `[batch, (ids)]`, or `[ids]` for all rows.

    Reference:
        repetition penalty: Keskar et al., 2019, arXiv:1909.05858, with the sign handled as in
        transformers. n-grams: Paulus et al., 2017, arXiv:1705.04304.
    """

    repetition_penalty: float | tf.Tensor = 1.0
    presence_penalty: float | tf.Tensor = 0.0
    frequency_penalty: float | tf.Tensor = 0.0
    no_repeat_ngram_size: int | tf.Tensor = 0
    bad_words: Sequence[Sequence[int]] | tf.RaggedTensor | None = None
    min_new_tokens: int | tf.Tensor = 0
    forced_prefix: Sequence[Sequence[int]] | Sequence[int] | tf.RaggedTensor | None = None
