"""How likely a masked language model finds texts: each token hidden in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.likelihoods import Likelihoods
from tfllm.models.mask_filling import mask_id_of

__all__ = ["PseudoLikelihoods"]


class _Hidden(NamedTuple):
    """A row with one token hidden.

    Attributes:
        input_ids: `<int32>[tokens]`.
        position: of the mask in the row.
        target: the hidden token.
        text: number of the text.
        token: the token's place in it.
    """

    input_ids: np.ndarray
    position: int
    target: int
    text: int
    token: int


class PseudoLikelihoods:
    """Scores texts by a `MaskedLM`; see `MaskedLM.pseudo_log_likelihoods`."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Prepare.

        Args:
            model: a `MaskedLM`.
            tokenizer: a `tfllm.text.Tokenizer` of its vocabulary.

        Raises:
            InputError: if the two don't belong together, or there is no mask token.
        """
        if tokenizer.vocabulary_size > model.config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocabulary_size} words and the model "
                f"{model.config.vocab_size}: they do not belong together"
            )
        self._fast = tokenizer.fast
        self._mask_id = mask_id_of(tokenizer)
        example = self._fast.encode("a")
        special = np.array(example.special_tokens_mask, bool)
        first, last = np.flatnonzero(~special)[[0, -1]]
        ids = np.array(example.ids, np.int32)
        self._before, self._after = ids[:first], ids[last + 1 :]
        self._room = model.max_positions - len(self._before) - len(self._after)

        def score(
            input_ids: tf.Tensor, lengths: tf.Tensor, positions: tf.Tensor, targets: tf.Tensor
        ) -> tf.Tensor:
            mask = tf.cast(tf.range(tf.shape(input_ids)[1]) < lengths[:, None], tf.int32)
            hidden = model.hidden_states({"input_ids": input_ids, "attention_mask": mask})
            logits = model.head(tf.gather(hidden, positions, batch_dims=1))
            return tf.gather(tf.nn.log_softmax(logits), targets, batch_dims=1)

        rows = tf.TensorSpec([None], tf.int32)
        self._score = tf.function(
            score,
            input_signature=[tf.TensorSpec([None, None], tf.int32), rows, rows, rows],
            autograph=False,
        )

    def of(self, texts: Sequence[str], *, batch_size: int) -> Likelihoods:
        """Score each text, rows of like length together.

        Raises:
            InputError: if `batch_size` is no number of rows.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1. Received: {batch_size}")
        ids = [
            np.array(self._fast.encode(text, add_special_tokens=False).ids, np.int32)
            for text in texts
        ]
        found = [np.zeros([len(row)], np.float32) for row in ids]
        waiting = self._rows(ids)
        while rows := list(islice(waiting, batch_size)):
            for row, score in zip(rows, self._scores(rows), strict=True):
                found[row.text][row.token] = score
        return Likelihoods.of(found)

    def _rows(self, ids: Sequence[np.ndarray]) -> Iterator[_Hidden]:
        """Hide each token once, those of short pieces first."""
        pieces = [
            (text, begin, row[begin : begin + self._room])
            for text, row in enumerate(ids)
            for begin in range(0, len(row), self._room)
        ]
        for text, begin, piece in sorted(pieces, key=lambda found: len(found[2])):
            whole = np.concatenate([self._before, piece, self._after])
            for place, target in enumerate(piece):
                row, position = whole.copy(), place + len(self._before)
                row[position] = self._mask_id
                yield _Hidden(row, position, int(target), text, begin + place)

    def _scores(self, rows: Sequence[_Hidden]) -> np.ndarray:
        lengths = np.array([len(row.input_ids) for row in rows], np.int32)
        ids = np.zeros([len(rows), lengths.max()], np.int32)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row.input_ids)] = row.input_ids
        positions = np.array([row.position for row in rows], np.int32)
        targets = np.array([row.target for row in rows], np.int32)
        return self._score(ids, lengths, positions, targets).numpy()
