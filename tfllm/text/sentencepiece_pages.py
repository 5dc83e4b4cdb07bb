"""A table over all code points, in two levels."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["CODE_POINTS", "CodePointPages"]

CODE_POINTS = 0x110000
_SIZE = 256


class CodePointPages:
    """A number for each code point. Most of Unicode's pages are alike and are kept once.

    Args:
        values: `<int32>[CODE_POINTS]`.
    """

    def __init__(self, values: np.ndarray) -> None:
        """Find the pages that differ."""
        places: dict[bytes, int] = {}
        pages = [page.tobytes() for page in values.astype(np.int32).reshape(-1, _SIZE)]
        page_of = [places.setdefault(page, len(places)) for page in pages]
        self._page_of = np.array(page_of, np.int32)
        self._pages = np.frombuffer(b"".join(places), np.int32)

    def of(self, code_points: tf.Tensor) -> tf.Tensor:
        """Return `<int32>[n]`, the number of each of `<int32>[n]`."""
        page = tf.gather(tf.constant(self._page_of), code_points // _SIZE)
        return tf.gather(tf.constant(self._pages), page * _SIZE + code_points % _SIZE)
