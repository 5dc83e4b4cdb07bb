"""Texts, or pairs of texts, to padded rows of ids with special tokens, in graph."""

from __future__ import annotations

from typing import Literal, get_args

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.text.special_token_template import Piece, SpecialTokenTemplate
from tfllm.text.tokenizer import Tokenizer

__all__ = ["Preprocessor", "Side", "Truncation"]

Truncation = Literal["longest_first", "only_first", "only_second"]
Side = Literal["left", "right"]


_FEATURES = ("input_ids", "attention_mask", "token_type_ids")
_PLACES = ("starts", "ends", "sequence_ids")


class Preprocessor(tf.Module):
    """Maps strings to the features of a BERT-like or GPT-2-like model, in graph.

    ids, masks and token types equal those of the tokenizer's `fast.encode(first, second)` with
    its truncation and padding switched on. The special tokens are those of its post-processor.

    Args:
        tokenizer: whose template and ids are used.
        sequence_length: tokens of the longest row, special tokens included.
        truncation: which text of a pair is cut when both are too long together. `longest_first`
            cuts the longer one down to the other's length, then both alike. `only_first` and
            `only_second` cut one; where that does not suffice, Hugging Face raises, and here the
            other text is cut as well, since a request can't be refused halfway through a batch.
        truncation_side: whose end of the text is cut off.
        padding: `longest`: rows are as wide as the batch's longest; `sequence_length`: always
            that wide.
        padding_side: where padding stands.

    Raises:
        InputError: if `sequence_length` has no room beside the special tokens, or the tokenizer's
            template is not supported.

    Example:
        >>> preprocess = Preprocessor(bert_tokenizer, sequence_length=8)
        >>> preprocess(["good film"], ["it is a good film"])["input_ids"]
        <tf.Tensor: [[101, 2204, 2143, 102, 2009, 2003, 1037, 102]]>
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        sequence_length: int,
        truncation: Truncation = "longest_first",
        truncation_side: Side = "right",
        padding: Literal["longest", "sequence_length"] = "longest",
        padding_side: Side = "right",
    ) -> None:
        """Read the tokenizer's template."""
        super().__init__(name="preprocessor")
        for name, value, allowed in (
            ("truncation", truncation, get_args(Truncation)),
            ("truncation_side", truncation_side, get_args(Side)),
            ("padding", padding, ("longest", "sequence_length")),
            ("padding_side", padding_side, get_args(Side)),
        ):
            if value not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}. Received: {value!r}")
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self._template = SpecialTokenTemplate.of(tokenizer.fast)
        least = self._template.added(pair=True) + 1
        if sequence_length < least:
            raise InputError(
                f"sequence_length must be at least {least}, so that a text fits beside the "
                f"special tokens. Received: {sequence_length}"
            )
        self._truncation = truncation
        self._cuts_left = truncation_side == "left"
        self._width = sequence_length if padding == "sequence_length" else None
        self._pads_left = padding_side == "left"
        # Where a vocabulary has no padding token the mask alone says what is padding.
        self._pad_id = tokenizer.pad_id if tokenizer.pad_id is not None else 0

    def __call__(self, texts: tf.Tensor, pairs: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Make the features of `<string>[batch]`.

        Args:
            texts: UTF-8.
            pairs: second texts, as many.

        Returns:
            `input_ids`, `attention_mask` (1 real, 0 padding) and `token_type_ids`, all
            `<int32>[batch, width]`.
        """
        rows = []
        for ids in map(self.tokenizer.tokenize, _both(texts, pairs)):
            rows.append(ids.with_values(tf.stack([ids.values] * 3, axis=1)))
        features = self._features(rows)
        return {name: features[name] for name in _FEATURES}

    def with_offsets(
        self, texts: tf.Tensor, pairs: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Make the features and say which bytes of which text each token stands for.

        Returns:
            as for a call, and `starts`, `ends` (bytes of the token's own text; 0 for special
            tokens and padding) and `sequence_ids` (0: first text, 1: second, -1: neither), all
            `<int32>[batch, width]`.
        """
        rows = []
        for found in map(self.tokenizer.tokenize_with_offsets, _both(texts, pairs)):
            ids = found[0]
            rows.append(ids.with_values(tf.stack([part.values for part in found], axis=1)))
        return self._features(rows)

    def _features(self, texts: list[tf.RaggedTensor]) -> dict[str, tf.Tensor]:
        """Lay out texts, `<int32>[batch, (tokens), 3]`: ids, first bytes, bytes after the last."""
        pieces = self._template.pair if len(texts) == 2 else self._template.single
        special = sum(piece.text is None for piece in pieces)
        kept = self._kept([text.row_lengths() for text in texts], self.sequence_length - special)
        texts = [self._cut(text, count) for text, count in zip(texts, kept, strict=True)]
        count = texts[0].nrows()
        rows = tf.concat([_columns(piece, texts, count) for piece in pieces], axis=1)
        dense = self._dense(rows)
        return dict(zip(_FEATURES + _PLACES, tf.unstack(dense, axis=-1), strict=True))

    def _kept(self, lengths: list[tf.Tensor], room: int) -> list[tf.Tensor]:
        """How many tokens of each text stay, `<int64>[batch]` each."""
        if len(lengths) == 1:
            return [tf.minimum(lengths[0], room)]
        first, second = lengths
        if self._truncation == "only_first":
            second = tf.minimum(second, room)
            return [tf.minimum(first, room - second), second]
        if self._truncation == "only_second":
            first = tf.minimum(first, room)
            return [first, tf.minimum(second, room - first)]
        # The shorter text stays whole if it takes half the room or less; what it leaves is the
        # other's. Else both get half, and the odd token goes to the longer one.
        swapped = first > second
        shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
        fits = first + second <= room
        halves = shorter > room // 2
        cut_shorter = tf.where(halves, tf.cast(room // 2, tf.int64), shorter)
        cut_longer = room - cut_shorter
        shorter = tf.where(fits, shorter, cut_shorter)
        longer = tf.where(fits, longer, cut_longer)
        return [tf.where(swapped, longer, shorter), tf.where(swapped, shorter, longer)]

    def _cut(self, text: tf.RaggedTensor, kept: tf.Tensor) -> tf.RaggedTensor:
        """Keep so many tokens of each row."""
        rows, place = _places(text)
        if self._cuts_left:
            place -= tf.gather(text.row_lengths() - kept, rows)
        stays = (place >= 0) & (place < tf.gather(kept, rows))
        flat = tf.boolean_mask(text.values, stays)
        return tf.RaggedTensor.from_row_lengths(flat, kept, validate=False)

    def _dense(self, ragged: tf.RaggedTensor) -> tf.Tensor:
        """Pad `<int32>[batch, (tokens), features]`."""
        lengths = ragged.row_lengths()
        width = self._width
        if width is None:
            width = tf.reduce_max(tf.concat([lengths, [0]], 0))
        rows, place = _places(ragged)
        if self._pads_left:
            place += tf.gather(tf.cast(width, tf.int64) - lengths, rows)
        empty = tf.constant([self._pad_id, 0, 0, 0, 0, -1])
        shape = tf.stack([ragged.nrows(), tf.cast(width, tf.int64), tf.size(empty, tf.int64)])
        dense = tf.tensor_scatter_nd_update(
            tf.broadcast_to(empty, shape), tf.stack([rows, place], axis=1), ragged.values
        )
        return tf.ensure_shape(dense, [None, self._width, len(_FEATURES + _PLACES)])


def _both(texts: tf.Tensor, pairs: tf.Tensor | None) -> list[tf.Tensor]:
    given = [texts] if pairs is None else [texts, pairs]
    return [tf.convert_to_tensor(part, tf.string) for part in given]


def _places(ragged: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Row of each value, and its place in the row."""
    rows = ragged.value_rowids()
    return rows, tf.range(tf.size(rows, tf.int64)) - tf.gather(ragged.row_starts(), rows)


def _columns(piece: Piece, texts: list[tf.RaggedTensor], count: tf.Tensor) -> tf.RaggedTensor:
    """Write one part of each row: id, mask, token type, first byte, byte after, which text."""
    if piece.text is None:
        columns = tf.constant([[piece.id, 1, piece.token_type, 0, 0, -1]])
        return tf.RaggedTensor.from_uniform_row_length(tf.tile(columns, [count, 1]), 1)
    text = texts[piece.text]
    ids, starts, ends = tf.unstack(text.values, axis=1)
    ones = tf.ones_like(ids)
    return text.with_values(
        tf.stack([ids, ones, ones * piece.token_type, starts, ends, ones * piece.text], axis=1)
    )
