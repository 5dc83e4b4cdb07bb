"""Texts that end a row, found in its bytes as they come."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfllm.generation.stop_bytes import StopBytes, bytes_of, found_at, nothing, stops_of

__all__ = ["StopStrings"]


class StopStrings(NamedTuple):
    """A row ends as soon as its new text contains one of its stop strings.

    Bytes are compared, so a stop string is found across tokens, inside one, and in any script.
    The result of decoding keeps the token that completed the stop string; `cut` takes the stop
    string and what follows it out of the text. Prompts are not looked at.

    Attributes:
        words: the bytes of each word, `<string>[words]`; the text of a row is that of its words,
            one after another.
        stops: `<string>[stops]` for all rows, or `<string>[batch, stops]`. An empty string stops
            nothing; none may have more than 256 bytes.

    Example:
        words "a", "b c", "c d" and stop "c c": the ids 0, 1, 2 end the row, and `cut` leaves "ab ".
    """

    words: tf.Tensor
    stops: tf.Tensor

    def cut(self, text: tf.Tensor) -> tf.Tensor:
        """Remove from each text the stop string that is completed first, and all behind it.

        Of several that end at the same byte, the longest goes. So where a text is cut does not
        depend on its tokens.

        Args:
            text: `<string>[batch]`.

        Returns:
            `<string>[batch]`.
        """
        stops = stops_of(self.stops)
        before = nothing(tf.shape(text)[0], tf.shape(stops)[2] - 1)
        found = found_at(tf.concat([before, bytes_of(text)], axis=1), stops)
        lengths = tf.reduce_sum(tf.cast(stops >= 0, tf.int32), axis=-1)[:, None, :]
        longest = tf.reduce_max(tf.where(found, lengths, 0), axis=-1)
        first = tf.argmax(longest > 0, axis=1, output_type=tf.int32)
        start = first + 1 - tf.gather(longest, first, batch_dims=1)
        stopped = tf.reduce_any(longest > 0, axis=1)
        length = tf.where(stopped, start, tf.strings.length(text))
        return tf.strings.substr(text, tf.zeros_like(length), length)

    def ready(self) -> StopBytes:
        """Give what the loop takes."""
        return StopBytes(tf.convert_to_tensor(self.words, tf.string), stops_of(self.stops))
