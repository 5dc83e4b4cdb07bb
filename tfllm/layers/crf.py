"""A linear-chain conditional random field: which row of tags is likeliest, and how likely.

A chain scores a row of tags y over emissions e by

    starts[y₀] + Σ e[t, yₜ] + Σ transitions[yₜ, yₜ₊₁] + ends[y_last]

and the row's probability is the exponential of that, divided by the sum over all rows of tags.

Reference:
    Lafferty, McCallum and Pereira, Conditional Random Fields, 2001.
    Rabiner, A Tutorial on Hidden Markov Models, 1989 (forward-backward, Viterbi).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

__all__ = ["CRF", "Allowed", "Chain", "log_likelihood", "marginals", "viterbi"]

# Its exponential is 0 beside any score that a model gives, and unlike −∞ it has a gradient.
_IMPOSSIBLE = -1e30

_Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Chain(NamedTuple):
    """Scores of what follows what."""

    transitions: tf.Tensor
    """`<float32>[classes, classes]`, from the row's class to the column's."""
    starts: tf.Tensor
    """`<float32>[classes]`, or `[batch, classes]` where rows begin in different ways."""
    ends: tf.Tensor
    """`<float32>[classes]`."""


class Allowed(NamedTuple):
    """What may follow what; everything else has probability 0."""

    transitions: np.ndarray
    """`<bool>[classes, classes]`, from the row's class to the column's."""
    starts: np.ndarray
    """`<bool>[classes]`."""
    ends: np.ndarray
    """`<bool>[classes]`."""

    @classmethod
    def everything(cls, num_classes: int) -> Allowed:
        """No constraint at all."""
        shapes = ((num_classes, num_classes), (num_classes,), (num_classes,))
        return cls(*(np.ones(shape, bool) for shape in shapes))

    def chain(self) -> Chain:
        """Score what is allowed with 0."""
        return Chain(*(tf.constant(np.where(part, 0.0, _IMPOSSIBLE), tf.float32) for part in self))


class CRF(keras.layers.Layer):
    """The weights of a linear-chain CRF, and what is allowed in it.

    Its few weights see every word and have far to go, where a pretrained backbone must hardly
    move. So they learn as with a learning rate `learning_rate_factor` times as large: the
    variables hold `scores / factor`, and their gradient is that of the scores. This holds for SGD
    and for Adam alike, and leaves the norm that gradients are clipped by as it is.

    Example:
        >>> crf = CRF(3)
        >>> log_likelihood(crf.chain(), tf.zeros([1, 2, 3]), [[0, 1]], [2])  # −ln 3²
        <tf.Tensor: [-2.1972246]>
    """

    def __init__(
        self,
        num_classes: int,
        *,
        allowed: Allowed | None = None,
        learning_rate_factor: float = 64.0,
        name: str = "crf",
    ) -> None:
        """Create weights of 0.

        Args:
            num_classes: tags.
            allowed: None for everything. At least one row of tags of each length must be.
            learning_rate_factor: see the class; a power of two, so that nothing is rounded.
            name: of the layer.
        """
        super().__init__(name=name, dtype="float32")  # under every policy
        self.allowed = allowed or Allowed.everything(num_classes)
        self.learning_rate_factor = learning_rate_factor
        self._weights_of = {
            part: self.add_weight(part, shape, initializer="zeros")
            for part, shape in (
                ("transitions", [num_classes, num_classes]),
                ("starts", [num_classes]),
                ("ends", [num_classes]),
            )
        }
        self.built = True

    def chain(self) -> Chain:
        """Return the scores, with penalties on what is not allowed."""
        scores = (_faster(v, self.learning_rate_factor) for v in self._weights_of.values())
        return Chain(*(s + p for s, p in zip(scores, self.allowed.chain(), strict=True)))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the scores without penalties, by the names of `Chain`."""
        return {
            part: v.numpy() * np.float32(self.learning_rate_factor)
            for part, v in self._weights_of.items()
        }

    def assign(self, tensors: dict[str, np.ndarray]) -> None:
        """Take over what `tensors` gave.

        Raises:
            ValueError: if a shape differs.
        """
        for part, variable in self._weights_of.items():
            variable.assign(tensors[part] / np.float32(self.learning_rate_factor))


def _faster(variable: tf.Variable, factor: float) -> tf.Tensor:
    """Multiply by a factor that the gradient doesn't see."""

    @tf.custom_gradient
    def scaled(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return value * factor, lambda upstream: upstream

    return scaled(tf.convert_to_tensor(variable))


def log_likelihood(
    chain: Chain, emissions: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor
) -> tf.Tensor:
    """Logarithm of the probability of each row of tags.

    Its gradient comes from one forward and one backward pass, and is exact.

    Args:
        chain: see the class.
        emissions: `<float32>[batch, words, classes]`.
        tags: `<int32>[batch, words]`; what stands beyond a row's length doesn't matter, but must
            be a class.
        lengths: `<int32>[batch]`, words of each row.

    Returns:
        `<float32>[batch]`, at most 0, and 0 for a row without words. A row of tags that isn't
        allowed gets some −1e30.
    """
    tags, lengths = tf.convert_to_tensor(tags), tf.convert_to_tensor(lengths)
    emissions = _with_borders(chain, emissions, lengths)
    words = tf.shape(emissions)[1]
    tags = tf.pad(tags, [[0, 0], [0, words - tf.shape(tags)[1]]])
    real = tf.cast(_real(emissions, lengths), tf.float32)
    pairs = tf.stack([tags[:, :-1], tags[:, 1:]], axis=-1)
    score = tf.reduce_sum(tf.gather(emissions, tags, batch_dims=2) * real, axis=1)
    score += tf.reduce_sum(tf.gather_nd(chain.transitions, pairs) * real[:, 1:], axis=1)
    return score - _log_partition(emissions, chain.transitions, lengths)


def marginals(chain: Chain, emissions: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Probability of each class at each word, over all rows of tags; no gradient.

    Returns:
        `<float32>[batch, words, classes]`; 0 beyond a row's length.
    """
    lengths = tf.convert_to_tensor(lengths)
    words = tf.shape(emissions)[1]
    by_time = _by_time(_with_borders(chain, emissions, lengths))
    alphas, total = _forward(by_time, chain.transitions, lengths)
    ones = tf.ones_like(total)
    found, _ = _backward(by_time, chain.transitions, lengths, alphas, ones)
    return _by_time(found)[:, :words]


def viterbi(chain: Chain, emissions: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Find the likeliest row of tags; of equals that of the lower classes, from the end.

    Args:
        chain: see the class.
        emissions: `<float32>[batch, words, classes]`.
        lengths: `<int32>[batch]`.

    Returns:
        `<int32>[batch, words]`; -1 beyond a row's length.
    """
    lengths = tf.convert_to_tensor(lengths)
    words = tf.shape(emissions)[1]
    emissions = _with_borders(chain, emissions, lengths)
    best, pointers = _best_predecessors(_by_time(emissions), chain.transitions, lengths)
    last = tf.argmax(best, axis=-1, output_type=tf.int32)
    path = tf.transpose(_followed(pointers, last))
    return tf.where(_real(emissions, lengths), path, -1)[:, :words]


def _with_borders(chain: Chain, emissions: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Add the scores of starts and ends to the emissions; at least one word wide."""
    words = tf.shape(emissions)[1]
    emissions = tf.pad(emissions, [[0, 0], [0, tf.cast(words == 0, tf.int32)], [0, 0]])
    places = tf.range(tf.shape(emissions)[1])
    first = tf.cast(places == 0, tf.float32)[:, None]
    last = tf.cast(places == lengths[:, None] - 1, tf.float32)[..., None]
    return emissions + first * chain.starts[..., None, :] + last * chain.ends


def _real(emissions: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Which words are not padding, `<bool>[batch, words]`."""
    return tf.sequence_mask(lengths, tf.shape(emissions)[1])


def _by_time(tensor: tf.Tensor) -> tf.Tensor:
    """`[batch, words, …]` → `[words, batch, …]`, and back."""
    return tf.transpose(tensor, [1, 0, 2])


def _log_sum_exp(scores: tf.Tensor, axis: int) -> tf.Tensor:
    top = tf.reduce_max(scores, axis=axis, keepdims=True)
    total = tf.reduce_sum(tf.exp(scores - top), axis=axis)
    return tf.math.log(total) + tf.squeeze(top, axis)


def _log_partition(emissions: tf.Tensor, transitions: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Logarithm of the sum over all rows of tags, `<float32>[batch]`; 0 for an empty row.

    The gradient by emissions is the probability of each class at each word, that by transitions
    the expected number of times each is taken: so it needs no graph of the forward loop.
    """

    @tf.custom_gradient
    def summed(emissions: tf.Tensor, transitions: tf.Tensor) -> tuple[tf.Tensor, _Gradient]:
        by_time = _by_time(emissions)
        alphas, total = _forward(by_time, transitions, lengths)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_emissions, by_transitions = _backward(
                by_time, transitions, lengths, alphas, upstream
            )
            return _by_time(by_emissions), by_transitions

        return total, gradient

    return summed(emissions, transitions)


def _forward(
    emissions: tf.Tensor, transitions: tf.Tensor, lengths: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum over all beginnings.

    Each word's sums are divided by their own sum, whose logarithms add up to the whole: so what
    float32 rounds away does not grow with a row's length.

    Args:
        emissions: `<float32>[words, batch, classes]`, with the borders' scores.
        transitions: `<float32>[classes, classes]`.
        lengths: `<int32>[batch]`.

    Returns:
        `<float32>[words, batch, classes]`: logarithm of the share that each class has in the sum
        over all rows of tags up to a word, beyond a row's length the last of these; and the
        logarithm of the sum over all of a row, `<float32>[batch]`.
    """
    words = tf.shape(emissions)[0]
    alpha, total = _shares_and_total(emissions[0])
    alphas = _array(tf.float32, emissions).write(0, alpha)

    def next_word(
        t: tf.Tensor, alpha: tf.Tensor, total: tf.Tensor, alphas: tf.TensorArray
    ) -> tuple:
        longer = _log_sum_exp(alpha[:, :, None] + transitions, axis=1) + emissions[t]
        longer, more = _shares_and_total(longer)
        goes_on = t < lengths
        alpha = tf.where(goes_on[:, None], longer, alpha)
        return t + 1, alpha, total + tf.where(goes_on, more, 0.0), alphas.write(t, alpha)

    _, _, total, alphas = tf.while_loop(
        lambda t, *_: t < words, next_word, (tf.constant(1), alpha, total, alphas)
    )
    return alphas.stack(), tf.where(lengths > 0, total, 0.0)


def _shares_and_total(scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logarithms of each class's share, `[batch, classes]`, and of the sum of all, `[batch]`."""
    total = _log_sum_exp(scores, axis=1)
    return scores - total[:, None], total


def _backward(
    emissions: tf.Tensor,
    transitions: tf.Tensor,
    lengths: tf.Tensor,
    alphas: tf.Tensor,
    weights: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum over all endings, and so get what is expected of each row, times the row's weight.

    Probabilities are made to add up to 1 at each word, and each word's sums are kept near 1.

    Returns:
        probability of each class at each word, `<float32>[words, batch, classes]`, and how often
        each transition is taken in all rows together, `<float32>[classes, classes]`.
    """
    words, classes = tf.shape(emissions)[0], tf.shape(emissions)[2]
    betas = _array(tf.float32, emissions).write(words - 1, tf.zeros_like(emissions[0]))

    def word_before(
        t: tf.Tensor, beta: tf.Tensor, betas: tf.TensorArray, taken: tf.Tensor
    ) -> tuple:
        goes_on = (t + 1 < lengths)[:, None]
        endings = transitions + (emissions[t + 1] + beta)[:, None, :]
        pairs = alphas[t][:, :, None] + endings
        shares = tf.reshape(tf.nn.softmax(tf.reshape(pairs, [-1, classes**2])), tf.shape(pairs))
        shares = tf.where(goes_on[..., None], shares, 0.0)
        longer = _log_sum_exp(endings, axis=2)
        longer -= tf.reduce_max(longer, axis=1, keepdims=True)
        beta = tf.where(goes_on, longer, beta)
        taken += tf.tensordot(weights, shares, 1)
        return t - 1, beta, betas.write(t, beta), taken

    start = (words - 2, tf.zeros_like(emissions[0]), betas, tf.zeros_like(transitions))
    _, _, betas, taken = tf.while_loop(lambda t, *_: t >= 0, word_before, start)
    real = tf.transpose(tf.sequence_mask(lengths, words))[..., None]
    shares = tf.where(real, tf.nn.softmax(alphas + betas.stack()), 0.0)
    return shares * weights[:, None], taken


def _best_predecessors(
    emissions: tf.Tensor, transitions: tf.Tensor, lengths: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Find the best way to each class of the last word.

    Returns:
        its score, `<float32>[batch, classes]`, and for each word the class before it,
        `<int32>[words, batch, classes]`; beyond a row's length each class comes from itself.
    """
    words = tf.shape(emissions)[0]
    itself = tf.broadcast_to(tf.range(tf.shape(emissions)[2]), tf.shape(emissions)[1:])
    pointers = _array(tf.int32, emissions).write(0, itself)

    def next_word(t: tf.Tensor, best: tf.Tensor, pointers: tf.TensorArray) -> tuple:
        scores = best[:, :, None] + transitions
        goes_on = (t < lengths)[:, None]
        before = tf.argmax(scores, axis=1, output_type=tf.int32)
        best = tf.where(goes_on, tf.reduce_max(scores, axis=1) + emissions[t], best)
        return t + 1, best, pointers.write(t, tf.where(goes_on, before, itself))

    _, best, pointers = tf.while_loop(
        lambda t, *_: t < words, next_word, (tf.constant(1), emissions[0], pointers)
    )
    return best, pointers.stack()


def _followed(pointers: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Follow pointers back from the last classes, `<int32>[batch]`: `<int32>[words, batch]`."""
    words = tf.shape(pointers)[0]
    path = tf.TensorArray(tf.int32, words, element_shape=last.shape)

    def word_before(t: tf.Tensor, tag: tf.Tensor, path: tf.TensorArray) -> tuple:
        return t - 1, tf.gather(pointers[t], tag, batch_dims=1), path.write(t, tag)

    _, _, path = tf.while_loop(lambda t, *_: t >= 0, word_before, (words - 1, last, path))
    return path.stack()


def _array(dtype: tf.DType, emissions: tf.Tensor) -> tf.TensorArray:
    """Room for one `[batch, classes]` a word."""
    return tf.TensorArray(dtype, tf.shape(emissions)[0], element_shape=emissions.shape[1:])
