"""Masks in texts, filled with words, in graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.masked_heads import MaskedHead
from tfllm.models.text_features import TextFeatures

__all__ = ["MaskFilling", "likeliest_words", "mask_id_of"]

# Logits alive at once, in elements: 2²⁴ float32 are 64 MiB.
_CHUNK_ELEMENTS = 1 << 24
_MOST_WORDS = 100
_SPACE = "\u2581"  # how SentencePiece writes a space
_SPACE_AT_END = r"\s+$"


class _Masks(NamedTuple):
    """The masks of a batch of texts, row by row.

    Attributes:
        places: `<int32>[masks, 2]`, row and token.
        states: `<float>[masks, hidden_dim]`.
        begins: `<int32>[masks]`, first byte in the text.
        ends: `<int32>[masks]`, the byte after the last.
    """

    places: tf.Tensor
    states: tf.Tensor
    begins: tf.Tensor
    ends: tf.Tensor


class MaskFilling:
    """Finds the masks of texts, and the words that a `MaskedLM` would put there."""

    def __init__(self, model: Any, texts: TextFeatures) -> None:
        """Prepare.

        Args:
            model: a `MaskedLM`.
            texts: makes its features.

        Raises:
            InputError: if there is no mask token, or it is not recognised in texts.
        """
        self._model = model
        self._texts = texts
        tokenizer = texts.preprocess.tokenizer
        self._mask_id = mask_id_of(tokenizer)
        mask = tokenizer.fast.id_to_token(self._mask_id)
        if tokenizer.fast.encode(mask, add_special_tokens=False).ids != [self._mask_id]:
            raise InputError(
                f"the tokenizer reads {mask} in a text as plain text, so that nobody can ask for a "
                "masked word. Load it with special_tokens_in_text=True"
            )
        size = model.config.vocab_size
        self._words = tf.constant(_spelt(tokenizer, size))
        prefix = getattr(tokenizer.fast.model, "continuing_subword_prefix", None) or ""
        self._prefix_size = len(prefix.encode())
        starts = tf.strings.substr(self._words, 0, self._prefix_size)
        longer = tf.strings.length(self._words) > self._prefix_size
        self._continues = (starts == prefix) & longer if prefix else tf.zeros([size], tf.bool)

    def filled_ids(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Replace masks among ids, `<int32>[batch, tokens]`."""
        ids = features["input_ids"]
        places = tf.cast(tf.where(ids == self._mask_id), tf.int32)
        states = tf.gather_nd(self._model.hidden_states(features), places)
        _, words = likeliest_words(self._model.head, states, 1)
        return {"output_ids": tf.tensor_scatter_nd_update(ids, places, words[:, 0])}

    def filled(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Replace masks in `<string>[batch]`; what is no mask stays as it was, byte by byte."""
        masks = self._masks_of(text)
        _, words = likeliest_words(self._model.head, masks.states, 1)
        rows, words = masks.places[:, 0], words[:, 0]
        # From the end of the mask before, or the text's beginning.
        same_row = rows == tf.concat([[-1], rows], 0)[:-1]
        after = tf.where(same_row, tf.concat([[0], masks.ends], 0)[:-1], 0)
        between = tf.strings.substr(tf.gather(text, rows), after, masks.begins - after)
        between, words = self._joined(between, after, words)
        batch = tf.size(text)
        ends = tf.maximum(tf.math.unsorted_segment_max(masks.ends, rows, batch), 0)
        rest = tf.strings.substr(text, ends, tf.strings.length(text) - ends)
        before = tf.strings.unsorted_segment_join(between + words, rows, batch)
        return {"text": _valid(before + rest)}

    def _joined(
        self, between: tf.Tensor, after: tf.Tensor, words: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Spell words so that they go on from what stands before: `<string>[masks]` each."""
        spelt, continues = tf.gather(self._words, words), tf.gather(self._continues, words)
        closed = tf.strings.regex_replace(between, _SPACE_AT_END, "")
        # One space is enough, and a text does not begin with one.
        spaced = (closed != between) | ((after == 0) & (between == ""))
        spaced &= tf.strings.substr(spelt, 0, 1) == " "
        dropped = tf.where(continues, self._prefix_size, tf.cast(spaced, tf.int32))
        spelt = tf.strings.substr(spelt, dropped, tf.strings.length(spelt) - dropped)
        return tf.where(continues, closed, between), spelt

    def candidates(self, text: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Give each mask's likeliest words: `tokens` and `scores`, `[batch, masks, most k]`.

        Args:
            text: `<string>[batch]`.
            k: `<int32>[batch]`, how many.
        """
        masks = self._masks_of(text)
        k = tf.clip_by_value(k, 1, min(_MOST_WORDS, self._words.shape[0]))
        most = tf.reduce_max(tf.concat([k, [1]], 0))
        scores, words = likeliest_words(self._model.head, masks.states, most)
        rows = masks.places[:, 0]
        asked = tf.range(most) < tf.gather(k, rows)[:, None]
        batch = tf.size(text)

        def dense(values: tf.Tensor, nothing: Any) -> tf.Tensor:
            values = tf.where(asked, values, nothing)
            ragged = tf.RaggedTensor.from_value_rowids(values, rows, batch, validate=False)
            return tf.ensure_shape(ragged.to_tensor(nothing), [None, None, None])

        return {"tokens": dense(tf.gather(self._words, words), ""), "scores": dense(scores, 0.0)}

    def _masks_of(self, text: tf.Tensor) -> _Masks:
        found = self._texts.preprocess.with_offsets(text)
        features = self._texts.known(found)
        places = tf.cast(tf.where(features["input_ids"] == self._mask_id), tf.int32)
        states = tf.gather_nd(self._model.hidden_states(features), places)
        # An empty row may have got a token, and is never a mask: places fit the rows as they were.
        begins, ends = (tf.gather_nd(found[name], places) for name in ("starts", "ends"))
        return _Masks(places, states, begins, ends)


def likeliest_words(
    head: MaskedHead, states: tf.Tensor, k: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Give the k likeliest words of each row, in chunks of rows.

    Args:
        head: makes logits of states.
        states: `<float>[rows, hidden_dim]`.
        k: `<int32>[]`.

    Returns:
        shares of all words `<float32>[rows, k]`, likeliest first, and their ids `<int32>`.
    """
    size = max(1, _CHUNK_ELEMENTS // int(head.bias.shape[0]))
    # At least one chunk, of no rows: an array without elements can't be joined.
    number = tf.maximum((tf.shape(states)[0] + size - 1) // size, 1)

    def next_chunk(i: tf.Tensor, scores: Any, words: Any) -> Any:
        logits = head(states[i * size : (i + 1) * size])
        best, ids = tf.math.top_k(logits, k)
        shares = tf.exp(best - tf.reduce_logsumexp(logits, axis=1, keepdims=True))
        return i + 1, scores.write(i, shares), words.write(i, ids)

    arrays = [
        tf.TensorArray(dtype, size=number, element_shape=[None, None], infer_shape=False)
        for dtype in (tf.float32, tf.int32)
    ]
    _, scores, words = tf.while_loop(
        lambda i, *_: i < number, next_chunk, (tf.constant(0), *arrays), parallel_iterations=1
    )
    return scores.concat(), words.concat()


def mask_id_of(tokenizer: Any) -> int:
    """Find the id of a `tfllm.text.Tokenizer`'s mask token.

    Raises:
        InputError: if it has none.
    """
    mask = getattr(tokenizer, "special_roles", {}).get("mask_token")
    found = None if mask is None else tokenizer.fast.token_to_id(mask)
    if found is None:
        raise InputError(
            "the tokenizer has no mask token, such as [MASK], and a masked language model needs "
            "one. Give a vocabulary with it"
        )
    return found


def _spelt(tokenizer: Any, size: int) -> list[str]:
    """Write each id as it is read within a text; "" where there is no such token."""
    fast = tokenizer.fast
    tokens = [fast.id_to_token(i) if i < tokenizer.vocabulary_size else None for i in range(size)]
    by_bytes = type(fast.model).__name__ == "BPE"
    return [_spelling(fast, i, token, by_bytes) for i, token in enumerate(tokens)]


def _spelling(fast: Any, token_id: int, token: str | None, by_bytes: bool) -> str:
    if token is None:
        return ""
    if token.startswith(_SPACE):
        return token.replace(_SPACE, " ")
    return fast.decode([token_id], skip_special_tokens=False) if by_bytes else token


def _valid(text: tf.Tensor) -> tf.Tensor:
    """Replace what is no UTF-8, since JSON can't carry it."""
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")
