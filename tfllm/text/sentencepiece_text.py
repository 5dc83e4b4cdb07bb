"""Code points of texts on their way through a normalizer, each with where it comes from."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["TracedText", "shift_left", "shift_right"]


class TracedText(NamedTuple):
    """Code points of all texts, one after another, `<int32>[n]` each."""

    code_points: tf.Tensor
    origins: tf.Tensor
    """The original code point that each is aligned with; not decreasing."""
    segments: tf.Tensor
    """Number of the stretch between added tokens; not decreasing."""

    def take(self, index: tf.Tensor) -> TracedText:
        """Return those at `index`, `<int32>[k]`."""
        return TracedText(*[tf.gather(values, index) for values in self])

    def where(self, kept: tf.Tensor) -> TracedText:
        """Return those of which `kept`, `<bool>[n]`, is true."""
        return self.take(tf.reshape(tf.where(kept), [-1]))

    def starts(self) -> tf.Tensor:
        """Return `<bool>[n]`: first of its segment."""
        return self.segments != shift_right(self.segments, -1)

    def prepended(self, code_point: int, needs: tf.Tensor) -> TracedText:
        """Put `code_point` before those of which `needs`, `<bool>[n]`, is true.

        The new one is aligned with the one that it stands before.
        """
        sources = tf.repeat(tf.range(tf.size(needs)), 1 + tf.cast(needs, tf.int32))
        is_new = sources == shift_left(sources, -1)
        text = self.take(sources)
        return text._replace(code_points=tf.where(is_new, code_point, text.code_points))


def shift_right(values: tf.Tensor, fill: bool | int) -> tf.Tensor:
    """Return each one's predecessor; `fill` for the first."""
    return tf.concat([tf.fill([1], tf.constant(fill, values.dtype)), values], 0)[:-1]


def shift_left(values: tf.Tensor, fill: bool | int) -> tf.Tensor:
    """Return each one's successor; `fill` for the last."""
    return tf.concat([values, tf.fill([1], tf.constant(fill, values.dtype))], 0)[1:]
