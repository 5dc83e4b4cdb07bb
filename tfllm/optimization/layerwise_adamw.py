"""AdamW that decays matrices only, with a learning rate of its own for each variable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["LayerwiseAdamW", "adamw", "is_matrix"]


@keras.saving.register_keras_serializable(package="tfllm")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """Keras's AdamW with four differences, which leave an update what it is up to rounding.

    Each variable is updated by one fused kernel, in a quarter of the time. Only matrices decay.
    Update and decay use the learning rate times the variable's multiplier. And with `use_ema`,
    Keras's average of weights is one that can be trusted:

    - Keras starts it at the untrained weights, which stay in it for `1 / (1 − ema_momentum)`
      steps. Here it is the mean of the weights after each update, `w_1 … w_t`, with weights
      proportional to `ema_momentum ** (t − i)`: update t moves the average by the share
      `(1 − m) / (1 − m ** t)` of the way to the new weights. The first share is 1.
    - Keras puts it into the model at the end of each `fit`, and the next one trains on from there,
      so a run stopped and resumed would differ from an uninterrupted one. Here the model is left
      alone: `average_in_place` shows the average while something is measured or exported.

    The average costs one more copy of the trained weights, on each device and in each checkpoint.
    Moments and averages are Keras's slots, under its names in checkpoints.

    References:
        Loshchilov and Hutter, 2017, arXiv:1711.05101 (decoupled decay).
        Kingma and Ba, 2014, arXiv:1412.6980, section 3 (a moving average without its start).
    """

    # What the rate is multiplied by while one variable is updated.
    _multiplier: float | None = None
    # Whether gradients come clipped already.
    _is_clipped = False

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        *,
        multipliers: Sequence[float] | None = None,
        name: str = "LayerwiseAdamW",
        **kwargs: Any,
    ) -> None:
        """Create the optimizer; `adamw` also builds it.

        Args:
            learning_rate: a number or a schedule over optimizer steps.
            multipliers: one for each variable that `build` is given, in its order; None for 1.
            name: of the optimizer.
            **kwargs: the rest of `keras.optimizers.AdamW`'s arguments.
        """
        super().__init__(learning_rate, name=name, **kwargs)
        self.multipliers = None if multipliers is None else tuple(map(float, multipliers))
        # Set by `average_in_place`, which must not be entered twice.
        self.shows_average = False

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Create the moments, once.

        Raises:
            ValueError: if there is not one multiplier for each variable.
        """
        if getattr(self, "_built", False):
            return
        if self.multipliers is not None and len(self.multipliers) != len(var_list):
            raise ValueError(
                f"there must be one multiplier for each variable. Received: "
                f"{len(self.multipliers)} multipliers, {len(var_list)} variables"
            )
        super().build(var_list)
        if self.use_ema:
            # Loss scaling counts a step that it skips among the iterations, so they won't do.
            self._average_updates = self.add_variable([], tf.int64, name="average_updates")

    @property
    def learning_rate(self) -> tf.Variable | tf.Tensor:
        """The rate of the last step; while a variable is updated, that variable's."""
        rate = super().learning_rate
        return rate if self._multiplier is None else rate * self._multiplier

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        keras.optimizers.AdamW.learning_rate.fset(self, rate)

    def apply_scaled(
        self,
        gradients: Sequence[tf.Tensor],
        variables: Sequence[tf.Variable],
        *,
        scale: tf.Tensor,
        norm: tf.Tensor,
    ) -> None:
        """Take a step with gradients that are still to be scaled, summed over replicas already.

        Scaling and clipping are one pass over them, where Keras would need three.

        Args:
            gradients: `scale` times these are the step's; dense or `tf.IndexedSlices`.
            variables: as many.
            scale: `<float32>[]`, at least 0.
            norm: `<float32>[]`, the global norm of the scaled gradients.
        """
        if self.global_clipnorm:
            scale *= self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        pairs = [(_scaled(g, scale), v) for g, v in zip(gradients, variables, strict=True)]
        self._is_clipped = True
        try:
            self.apply_gradients(pairs, skip_gradients_aggregation=True)
        finally:
            self._is_clipped = False

    def _clip_gradients(self, gradients: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        return gradients if self._is_clipped else super()._clip_gradients(gradients)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Decay one variable and move it, at its own rate."""
        with self._at_rate_of(variable):
            if self._use_weight_decay(variable):
                rate = tf.cast(self.learning_rate, variable.dtype)
                # In this order: `assign_sub` would pass over a large table twice more.
                variable.assign(variable * (1.0 - self.weight_decay * rate))
            if self._fits_the_fused_kernel(gradient, variable):
                self._fused_update(gradient, variable)
            else:
                super().update_step(gradient, variable)

    def _fits_the_fused_kernel(self, gradient: Any, variable: tf.Variable) -> bool:
        known = isinstance(gradient, tf.Tensor | tf.IndexedSlices)
        return known and not self.amsgrad and self.jit_compile is False

    def _fused_update(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Move one variable in a single pass, where Keras's dozen operations take four times."""
        index = self._index_dict[self._var_key(variable)]
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(self.learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.convert_to_tensor(gradient),
        )

    @contextlib.contextmanager
    def _at_rate_of(self, variable: tf.Variable) -> Iterator[None]:
        if self.multipliers is not None:
            self._multiplier = self.multipliers[self._index_dict[self._var_key(variable)]]
        try:
            yield
        finally:
            self._multiplier = None

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Nothing: `update_step` has done it, where the variable's rate is known."""

    def _use_weight_decay(self, variable: tf.Variable) -> bool:
        # A decay of 0 would be a pass over every matrix all the same.
        return (
            bool(self.weight_decay) and is_matrix(variable) and super()._use_weight_decay(variable)
        )

    def _update_model_variables_moving_average(self, var_list: Sequence[tf.Variable]) -> None:
        # float64: 1 − m ** t has few digits left in float32 where m is near 1.
        momentum = tf.constant(self.ema_momentum, tf.float64)
        updates = tf.cast(self._average_updates + 1, tf.float64)
        share = tf.cast((1.0 - momentum) / (1.0 - momentum**updates), tf.float32)

        def move(average: tf.Variable, variable: tf.Variable) -> None:
            # Not a·(1 − s) + w·s: those factors, rounded, do not add up to 1.
            average.assign_add((variable - average) * tf.cast(share, average.dtype))

        for variable in var_list:
            self._distribution_strategy.extended.update(
                self.average_of(variable), move, args=(variable,), group=False
            )
        self._average_updates.assign_add(1)

    def average_of(self, variable: tf.Variable) -> tf.Variable:
        """Return the variable that holds the average of one of the model's; needs `use_ema`."""
        return self._model_variables_moving_average[self._index_dict[self._var_key(variable)]]

    def has_average(self) -> bool:
        """Whether there was an update that the average is of; outside graphs."""
        return bool(self.use_ema and self._average_updates.numpy() > 0)

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Leave the model as it is (`fit` calls this at its end)."""

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same optimizer of, without its state."""
        multipliers = None if self.multipliers is None else list(self.multipliers)
        return super().get_config() | {"multipliers": multipliers}


def adamw(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    variables: Iterable[tf.Variable],
    *,
    weight_decay: float = 0.1,
    beta_1: float = 0.9,
    beta_2: float = 0.95,
    epsilon: float = 1e-8,
    clip_norm: float | None = 1.0,
    multipliers: Sequence[float] | None = None,
    average_momentum: float | None = None,
) -> LayerwiseAdamW:
    """Create AdamW that decays matrices only, and build it.

    Biases and the scales of layer norms are left alone, whatever they are called: what counts is
    that a variable has two dimensions longer than 1.

    Args:
        learning_rate: a number or a schedule over optimizer steps.
        variables: those that will be trained.
        weight_decay: decoupled decay, per unit of learning rate.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        clip_norm: the norm, over all variables together, that gradients are scaled down to after
            they were summed over replicas; None to leave them.
        multipliers: one for each variable, for its learning rate: see `layer_multipliers`.
        average_momentum: keeps an exponential moving average of the weights, for
            `average_in_place`; at least 0 and below 1. None for no average.

    Raises:
        InputError: if `average_momentum` is out of range.

    Reference:
        Loshchilov and Hutter, 2017, arXiv:1711.05101.
    """
    if average_momentum is not None and not 0 <= average_momentum < 1:
        raise InputError(
            "the momentum of the average of weights must be at least 0 and below 1. "
            f"Received: {average_momentum}"
        )
    optimizer = LayerwiseAdamW(
        learning_rate,
        multipliers=multipliers,
        weight_decay=weight_decay,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        global_clipnorm=clip_norm,
        use_ema=average_momentum is not None,
        ema_momentum=average_momentum or 0.0,
    )
    optimizer.build(list(variables))
    return optimizer


def _scaled(gradient: tf.Tensor | tf.IndexedSlices, scale: tf.Tensor) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(scale, gradient.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(scale, gradient.dtype)


def is_matrix(variable: tf.Variable) -> bool:
    """Whether two dimensions are longer than 1 (GPT-2's biases are `[1, n]` in TensorFlow)."""
    return sum(size > 1 for size in variable.shape) >= 2
