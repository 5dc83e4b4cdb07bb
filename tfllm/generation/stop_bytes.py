"""Stop strings as the loop looks for them: numbers for bytes."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["MOST_BYTES", "StopBytes", "bytes_of", "found_at", "nothing", "stops_of"]

NO_BYTE = -1
# Every place of a text is held against every byte of a stop string.
MOST_BYTES = 256


class StopBytes(NamedTuple):
    """What `StopStrings` says, ready to follow a text token by token.

    Attributes:
        words: the bytes of each word, `<string>[words]`.
        stops: `<int16>[batch or 1, stops, longest]`, see `stops_of`.
    """

    words: tf.Tensor
    stops: tf.Tensor

    def begin(self, rows: tf.Tensor) -> tf.Tensor:
        """Give the bytes with which a stop string may have begun, none yet.

        Returns:
            `<int16>[batch, longest - 1]`, -1 for no byte.
        """
        return nothing(rows, tf.shape(self.stops)[2] - 1)

    def follow(self, tail: tf.Tensor, token: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Add one token to each row.

        Args:
            tail: the last bytes of the row's text, as `begin` gives them.
            token: `<int32>[batch]`.

        Returns:
            whether a stop string is completed within this token, `<bool>[batch]`, and the tail.
        """
        # A model may have more words than its tokenizer; the rest have no text.
        known = token < tf.shape(self.words)[0]
        word = bytes_of(tf.where(known, tf.gather(self.words, tf.where(known, token, 0)), ""))
        text = tf.concat([tail, word], axis=1)
        found = tf.reduce_any(found_at(text, self.stops), axis=[1, 2])
        lengths = tf.reduce_sum(tf.cast(word >= 0, tf.int32), axis=1)
        kept = tf.range(tf.shape(tail)[1])[None, :] + lengths[:, None]
        new_tail = tf.reshape(tf.gather(text, kept, batch_dims=1), tf.shape(tail))
        return found, tf.ensure_shape(new_tail, tail.shape)


def nothing(rows: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """`<int16>[rows, width]` without a byte."""
    return tf.fill([rows, width], tf.constant(NO_BYTE, tf.int16))


def stops_of(stops: tf.Tensor) -> tf.Tensor:
    """Turn `<string>[stops]` or `[batch, stops]` into right-aligned bytes.

    Returns:
        `<int16>[batch or 1, stops, longest]`, -1 on the left; at least one place and one stop
        string, which is empty.

    Raises:
        InvalidArgumentError: if one is too long.
    """
    stops = tf.convert_to_tensor(stops, tf.string)
    stops = stops[None] if stops.shape.rank == 1 else stops
    lengths = tf.strings.length(stops)
    longest = tf.maximum(tf.reduce_max(lengths), 1)
    short = tf.debugging.assert_less_equal(
        longest, MOST_BYTES, message=f"a stop string has more than {MOST_BYTES} bytes"
    )
    with tf.control_dependencies([short]):
        codes = tf.io.decode_raw(stops, tf.uint8, fixed_length=longest)
    source = tf.range(longest) - (longest - lengths)[:, :, None]
    moved = tf.gather(tf.cast(codes, tf.int16), tf.maximum(source, 0), batch_dims=2)
    return tf.where(source >= 0, moved, NO_BYTE)


def bytes_of(texts: tf.Tensor) -> tf.Tensor:
    """`<string>[batch]` → `<int16>[batch, longest]`, -1 behind the end; at least one place."""
    lengths = tf.strings.length(texts)
    width = tf.maximum(tf.reduce_max(lengths), 1)
    codes = tf.cast(tf.io.decode_raw(texts, tf.uint8, fixed_length=width), tf.int16)
    return tf.where(tf.range(width) < lengths[:, None], codes, NO_BYTE)


def found_at(text: tf.Tensor, stops: tf.Tensor) -> tf.Tensor:
    """Find where a stop string ends.

    Args:
        text: `<int16>[batch, longest - 1 + n]`.
        stops: `<int16>[batch or 1, stops, longest]`.

    Returns:
        `<bool>[batch, n, stops]`, one for each of the last n bytes.
    """
    longest = tf.shape(stops)[2]
    ends = tf.shape(text)[1] - longest + 1
    places = tf.range(ends)[:, None] + tf.range(longest)
    windows = tf.gather(text, places, axis=1)[:, :, None, :]
    wanted = stops[:, None, :, :]
    same = tf.reduce_all((windows == wanted) | (wanted < 0), axis=-1)
    # An empty string would be found everywhere.
    return same & tf.reduce_any(wanted >= 0, axis=-1)
