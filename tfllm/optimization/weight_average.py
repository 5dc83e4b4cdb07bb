"""A model with the average of its weights, for as long as it is measured or exported."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf
import tf_keras as keras

from tfllm.optimization.layerwise_adamw import LayerwiseAdamW

__all__ = ["average_in_place", "weights_to_measure"]


@contextlib.contextmanager
def average_in_place(model: keras.Model) -> Iterator[None]:
    """Give a model the average of its trained weights, within a `with`.

    Weights and averages change places, one variable at a time, so this needs room for the largest
    variable once more; afterwards, and after an error, all are what they were, bit for bit. Before
    the first update there is no average, and nothing changes. What is trained by no optimizer
    (frozen layers) is its own average.

    A checkpoint must not be written within: it would hold weights and averages exchanged.

    Args:
        model: compiled with `adamw(…, average_momentum=…)`, under a loss-scaling optimizer or not.

    Raises:
        ValueError: if the optimizer keeps no average.
        RuntimeError: if the average is in place already, or the model was trained within.

    Example:
        >>> with average_in_place(model):  # doctest: +SKIP
        ...     loss = model.evaluate(validation)

    Reference:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not isinstance(optimizer, LayerwiseAdamW) or not optimizer.use_ema:
        raise ValueError(
            "the model's optimizer keeps no average of weights: make it with "
            f"adamw(…, average_momentum=…). Received: {optimizer!r}"
        )
    if optimizer.shows_average:
        raise RuntimeError("the average of weights is in place already: leave that `with` first")
    step = int(optimizer.iterations.numpy())
    with contextlib.ExitStack() as stack:
        if optimizer.has_average():
            optimizer.shows_average = True
            stack.callback(setattr, optimizer, "shows_average", False)
            for variable in model.trainable_variables:
                pair = variable, optimizer.average_of(variable)
                _exchange(*pair)
                stack.callback(_exchange, *pair)
        yield
    if int(optimizer.iterations.numpy()) != step:
        raise RuntimeError("the model was trained while the average of its weights was in place")


def weights_to_measure(model: keras.Model) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Give the context to measure and export a compiled model in.

    It is `average_in_place` where the optimizer keeps an average, and else one that does nothing.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if getattr(optimizer, "use_ema", False):
        return lambda: average_in_place(model)
    return contextlib.nullcontext


def _exchange(a: tf.Variable, b: tf.Variable) -> None:
    old = tf.identity(a)
    a.assign(b)
    b.assign(old)
