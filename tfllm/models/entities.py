"""From tagged words to entities with their text and place, in graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfllm.models.tag_scheme import BEGINS, OUTSIDE, meanings
from tfllm.models.text_words import Words

__all__ = ["find_entities"]


def find_entities(
    texts: tf.Tensor, words: Words, tags: tf.Tensor, scores: tf.Tensor, labels: Sequence[str]
) -> dict[str, tf.Tensor]:
    """Join words that make an entity.

    An entity begins at `B-X`, at an `I-X` that continues nothing, and at any label that is
    neither; `I-X` after a word of the type X continues it.

    Args:
        texts: `<string>[batch]`.
        words: of these texts.
        tags: `<int32>[words]`, each word's class.
        scores: `<float32>[words]`, how sure that is.
        labels: in the order of their numbers.

    Returns:
        Padded to the row that has most, `[batch, entities]` each: `entity` `<string>`, the text,
        made valid UTF-8; `label` `<string>`; `start` and `end` `<int32>`, first byte and byte
        after the last; `score` `<float32>`, the mean of the words'. Padding is "", -1 and 0.
    """
    kinds, types, names = meanings(labels)
    is_inside = tf.gather(tf.constant(kinds), tags) != OUTSIDE
    begins = _begins(
        words, tf.gather(tf.constant(kinds), tags), tf.gather(tf.constant(types), tags)
    )
    firsts = tf.where(begins)[:, 0]
    inside = tf.where(is_inside)[:, 0]
    entity_of = tf.gather(tf.cumsum(tf.cast(begins, tf.int32)) - 1, inside)
    rows = tf.gather(words.texts, firsts)
    starts = tf.gather(words.starts, firsts)
    ends = tf.math.segment_max(tf.gather(words.ends, inside), entity_of)
    shape = [tf.size(texts), tf.reduce_max(tf.concat([_counts(rows, tf.size(texts)), [0]], 0))]
    columns = {
        "entity": _cut(texts, rows, starts, ends),
        "label": tf.gather(tf.constant(np.array(names)[types]), tf.gather(tags, firsts)),
        "start": starts,
        "end": ends,
        "score": tf.math.segment_mean(tf.gather(scores, inside), entity_of),
    }
    return {name: _padded(column, rows, shape) for name, column in columns.items()}


def _begins(words: Words, kinds: tf.Tensor, types: tf.Tensor) -> tf.Tensor:
    """Which words begin an entity, `<bool>[words]`."""

    def before(values: tf.Tensor) -> tf.Tensor:
        return tf.concat([[-1], values], 0)[:-1]

    same = (before(words.texts) == words.texts) & (before(types) == types)
    goes_on = same & (before(kinds) != OUTSIDE)
    return (kinds == BEGINS) | (kinds != OUTSIDE) & ~goes_on


def _cut(texts: tf.Tensor, rows: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Cut entities out of their texts, `<string>[entities]`, as valid UTF-8."""
    # One byte each, taken together: a long text is not copied for each of its entities.
    split = tf.strings.bytes_split(texts)
    offsets = tf.gather(tf.cast(split.row_starts(), tf.int32), rows)
    places = tf.ragged.range(offsets + starts, offsets + ends)
    found = tf.gather(split.flat_values, places.flat_values)
    joined = tf.strings.unsorted_segment_join(
        found, tf.cast(places.value_rowids(), tf.int32), tf.size(rows)
    )
    return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8")


def _counts(rows: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, count)


def _padded(column: tf.Tensor, rows: tf.Tensor, shape: list[tf.Tensor]) -> tf.Tensor:
    """`[entities]` → `[batch, entities]`."""
    padding = {tf.string: "", tf.int32: -1, tf.float32: 0.0}[column.dtype]
    counts = _counts(rows, shape[0])
    places = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(counts, exclusive=True), rows)
    return tf.tensor_scatter_nd_update(
        tf.fill(shape, tf.constant(padding, column.dtype)), tf.stack([rows, places], 1), column
    )
