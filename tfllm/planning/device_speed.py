"""How fast this machine multiplies matrices and passes over numbers, measured now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["DeviceSpeed", "SpeedMeter"]

# More rows make a product no faster, and more numbers (16 MiB) a pass no slower.
_MOST_ROWS, _MOST_NUMBERS = 2048, 1 << 22
_ROUNDS = 7
_SECONDS = 0.05
_WARM_UP = 3
# So many in one graph, as in training, or starting it would count as well.
_PRODUCTS, _PASSES = 2, 4

# Operations of a matrix product in the time of passing over one byte, on a two-core Xeon: stands in
# where a peak is given by hand.
_OPERATIONS_A_BYTE = 7.0


class DeviceSpeed(NamedTuple):
    """What a device can do at its best.

    Attributes:
        flops: operations per second of a matrix product of float32.
        bytes_per_second: read and written by an elementwise operation.
    """

    flops: float
    bytes_per_second: float

    @classmethod
    def from_peak(cls, flops: float) -> DeviceSpeed:
        """Take a peak as given; memory is as much slower as on the machine this was made on."""
        return cls(flops, flops / _OPERATIONS_A_BYTE)


class SpeedMeter:
    """Measures TensorFlow's products, sums and passes in float32, at a model's sizes.

    Training uses the same kernels and as many threads; the products are a block's two widest. The
    median of several short rounds is what other work on the machine leaves, and not the best it
    could do.
    """

    def __init__(self, positions: int, width: int, inner: int) -> None:
        """Draw the matrices and build the graphs, which takes seconds where TensorFlow is new.

        Args:
            positions: rows of the product; more than some thousand make no difference.
            width: of the states.
            inner: of the states within a block.
        """
        import tensorflow as tf

        rows = max(1, min(positions, _MOST_ROWS))
        states = tf.random.stateless_normal([rows, width], [0, 0])
        there = tf.random.stateless_normal([width, inner], [0, 1])
        back = tf.random.stateless_normal([inner, width], [0, 2]) / inner
        passed = max(1, min(positions, _MOST_NUMBERS // inner))
        wide = tf.random.stateless_normal([passed, inner], [0, 3])

        def products(states: Any, there: Any, back: Any) -> Any:
            for _ in range(_PRODUCTS // 2):
                states = tf.matmul(tf.matmul(states, there), back)
            return states

        def passes(x: Any, wide: Any) -> Any:
            for _ in range(_PASSES // 2):
                x = (x + wide) * wide  # a sum of sums would become one operation
            return x

        self._products = _timed(tf.function(products, autograph=False), states, there, back)
        self._passes = _timed(tf.function(passes, autograph=False), wide, wide + 1.0)
        self._operations = _PRODUCTS * 2.0 * rows * width * inner
        self._bytes = _PASSES * 3.0 * 4.0 * passed * inner
        for _ in range(_WARM_UP):
            self._products()
            self._passes()

    def measure(self, rounds: int = _ROUNDS) -> DeviceSpeed:
        """Measure for some tenths of a second."""
        products, passes = [], []
        for _ in range(rounds):
            products.append(_rate(self._products))
            passes.append(_rate(self._passes))
        return DeviceSpeed(
            self._operations * statistics.median(products), self._bytes * statistics.median(passes)
        )


def _timed(function: Any, *inputs: Any) -> Callable[[], None]:
    def run() -> None:
        function(*inputs)[0, 0].numpy()  # waits for the result

    return run


def _rate(work: Callable[[], None]) -> float:
    """Times a second."""
    begun, done = time.perf_counter(), 0
    while True:
        work()
        done += 1
        passed = time.perf_counter() - begun
        if passed >= _SECONDS:
            return done / passed
