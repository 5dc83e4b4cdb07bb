"""From served texts to a backbone's features, and whether the two go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from transformers import TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.models.backbones import traits

__all__ = ["ExampleRow", "TextFeatures", "example_row", "token_probes"]


class ExampleRow(NamedTuple):
    """What a preprocessor makes of a short text, or of two.

    Attributes:
        input_ids: `<int32>[tokens]`, without padding.
        token_types: `<int32>[tokens]`.
        is_text: `<bool>[tokens]`, False for special tokens.
    """

    input_ids: np.ndarray
    token_types: np.ndarray
    is_text: np.ndarray


class TextFeatures:
    """Makes a backbone's features of texts, or of pairs of texts, in graph."""

    def __init__(self, preprocess: Any, backbone: TFPreTrainedModel, *, pair: bool = False) -> None:
        """See that tokenizer and backbone belong together.

        Args:
            preprocess: a `tfllm.text.Preprocessor`.
            backbone: what the features are for.
            pair: whether there are two texts a row.

        Raises:
            InputError: if the tokenizer has more words or makes longer rows than the backbone can
                read, or if nothing tells the two texts of a pair apart.
        """
        self.preprocess = preprocess
        self._pair = pair
        self.token_types = traits(backbone).token_types
        _check_sizes(preprocess, backbone)
        example = example_row(preprocess, pair=pair)
        if pair:
            self._check_pair(example)
        self._check_token_types(example, backbone)
        self._framed = not example.is_text.all()

    def __call__(self, text: tf.Tensor, text_pair: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Make the features of `<string>[batch]`: `<int32>[batch, tokens]` each.

        Every row has a real token: an empty one, where the tokenizer puts no special tokens around
        it, starts with the start token, or with padding's.
        """
        features = self.preprocess(text) if text_pair is None else self.preprocess(text, text_pair)
        return self.known(features)

    def known(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Give empty rows a token, and leave out token types where the backbone has none."""
        if not self._framed:
            features = _with_a_token(features, self._start_id)
        return {name: features[name] for name in self.names}

    def signatures(
        self,
        answer: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
        answer_texts: Callable[..., dict[str, tf.Tensor]] | None = None,
    ) -> dict[str, Any]:
        """Give the functions that a bundle serves.

        Args:
            answer: features → named outputs.
            answer_texts: one or two `<string>[batch]` → named outputs; None for `answer` to the
                texts' features.

        Returns:
            `serving_default`: texts → outputs; `tokens`: features → outputs; `tokenize`: texts →
            features.
        """
        texts = [tf.TensorSpec([None], tf.string, name=name) for name in self.text_names]
        features = [tf.TensorSpec([None, None], tf.int32, name=name) for name in self.names]

        @tf.function(input_signature=texts, autograph=False)
        def serving_default(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return answer(self(*texts)) if answer_texts is None else answer_texts(*texts)

        @tf.function(input_signature=texts, autograph=False)
        def tokenize(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return self(*texts)

        @tf.function(input_signature=features, autograph=False)
        def tokens(*features: tf.Tensor) -> dict[str, tf.Tensor]:
            return answer(dict(zip(self.names, features, strict=True)))

        return {"serving_default": serving_default, "tokens": tokens, "tokenize": tokenize}

    @property
    def text_names(self) -> tuple[str, ...]:
        """What the texts are called."""
        return ("text", "text_pair") if self._pair else ("text",)

    @property
    def names(self) -> tuple[str, ...]:
        """Which features the backbone reads."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        return names if self.token_types else names[:2]

    @property
    def pad_id(self) -> int:
        """Id that fills rows."""
        pad_id = self.preprocess.tokenizer.pad_id
        return 0 if pad_id is None else pad_id

    @property
    def _start_id(self) -> int:
        start_id = self.preprocess.tokenizer.bos_id
        return self.pad_id if start_id is None else start_id

    def _check_pair(self, example: ExampleRow) -> None:
        """Refuse a pair whose texts touch, unless token types tell them apart."""
        (places,) = np.nonzero(example.is_text)
        touch = places[-1] - places[0] + 1 == len(places)
        types = example.token_types[places]
        if touch and (not self.token_types or types[0] == types[-1]):
            raise InputError(
                "pairs of texts need a tokenizer that puts a special token between the two, or a "
                "backbone with token types; this one has neither. Give a tokenizer with a "
                "template such as '$A </s> $B', or join the two into one text"
            )

    def _check_token_types(self, example: ExampleRow, backbone: TFPreTrainedModel) -> None:
        # XLNet has no table of types: it only asks which are alike.
        known = getattr(backbone.config, "type_vocab_size", None)
        largest = int(example.token_types.max())
        if self.token_types and known is not None and largest >= known:
            raise InputError(
                f"the tokenizer gives token types up to {largest} and the backbone has {known} of "
                "them: they do not belong together"
            )


def example_row(preprocess: Any, *, pair: bool = False) -> ExampleRow:
    """Ask a `tfllm.text.Preprocessor` once, in Python, for the row of the text "a", or of two."""
    with tf.init_scope():
        row = preprocess(*([["a"], ["a"]] if pair else [["a"]]))
        of_text = preprocess.tokenizer.tokenize(["a"]).values.numpy()
    real = row["attention_mask"].numpy()[0] == 1
    ids, types = (row[name].numpy()[0][real] for name in ("input_ids", "token_type_ids"))
    return ExampleRow(ids, types, np.isin(ids, of_text))


def _check_sizes(preprocess: Any, backbone: TFPreTrainedModel) -> None:
    words, known = preprocess.tokenizer.vocabulary_size, backbone.config.vocab_size
    if words > known:
        raise InputError(
            f"the tokenizer has {words} words and the model {known}: they do not belong together"
        )
    most = traits(backbone).max_tokens
    if preprocess.sequence_length > most:
        raise InputError(
            f"sequence_length must be at most {most}, which is what the backbone can read. "
            f"Received: {preprocess.sequence_length}"
        )


def _with_a_token(features: dict[str, tf.Tensor], start_id: int) -> dict[str, tf.Tensor]:
    """Give rows without a token one, in the first column."""
    narrow = tf.shape(features["input_ids"])[1] == 0
    column = tf.cast(narrow, tf.int32)
    features = {name: tf.pad(v, [[0, 0], [0, column]]) for name, v in features.items()}
    mask = features["attention_mask"]
    first = tf.range(tf.shape(mask)[1]) == 0
    mended = first & ~tf.reduce_any(mask > 0, axis=1, keepdims=True)
    return features | {
        "input_ids": tf.where(mended, start_id, features["input_ids"]),
        "attention_mask": tf.where(mended, 1, mask),
    }


def token_probes(backbone: TFPreTrainedModel) -> dict[str, list[Any]]:
    """Give example rows of features, for the gate to ask an exported bundle."""
    ids = np.array([[1, 2, 3, 4, 5], [2, 1, 0, 0, 0], [5, 4, 3, 2, 0]])
    probes = {
        "input_ids": (ids % backbone.config.vocab_size).tolist(),
        "attention_mask": (np.arange(5) < np.array([[5], [2], [4]])).astype(int).tolist(),
    }
    if traits(backbone).token_types:
        probes["token_type_ids"] = [[0] * 5] * len(ids)
    return probes
