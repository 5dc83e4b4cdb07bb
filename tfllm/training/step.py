"""One training step for every model: a loss is a sum, divided once by the global weight."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["SummedLossModel"]

_Batch = tuple[Any, tf.Tensor, tf.Tensor]


class _Skipped(NamedTuple):
    """Steps without effect: of all, and the newest ones in a row, `<int64>[]` each."""

    total: Any
    in_a_row: Any


class SummedLossModel(keras.Model):
    """A `keras.Model` that knows its own loss as a sum and a weight.

    Compiled without a `loss`, `fit` and `evaluate` call `loss_sum_and_weight` and divide the sum
    by the weight of the whole global batch: over all replicas and all accumulated micro-batches.
    So N replicas equal one, k micro-batches of b equal one batch of k·b, a replica without
    weight adds nothing, and a batch without weight has gradients of 0.
    A loss or a gradient that is not finite changes no weight: the step is skipped, counted, and
    over, so that data and learning rate go on with the next one.
    Compiled with a Keras `loss`, the model trains as any `keras.Model` does.

    What `fit` tells callbacks of each step: `loss` (mean of the epoch so far), `step_loss`,
    `gradient_norm` (global, before clipping), `padding` (share of positions without a target),
    `skipped` and `skipped_in_a_row` (steps).

    A subclass gives `call` (features → logits) and `loss_sum_and_weight`.
    """

    def __init__(self, *, seed: int = 0, name: str | None = None) -> None:
        """Create the model.

        Args:
            seed: decides dropout, together with the optimizer's step.
            name: of the Keras model.
        """
        super().__init__(name=name)
        self.seed = seed
        self.accumulate_steps = 1
        # What a step returns is global already, the same on every replica: Keras must not add it.
        self.distribute_reduction_method = "first"
        self._own_loss = True
        self._loss_mean: keras.metrics.Mean | None = None
        self._skipped: _Skipped | None = None

    def loss_sum_and_weight(
        self,
        features: Any,
        targets: tf.Tensor,
        weights: tf.Tensor,
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the summed loss and the weight to divide it by, `<float32>[]` each."""
        raise NotImplementedError

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        *,
        accumulate_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        """Configure training as `keras.Model.compile` does.

        Args:
            optimizer: as in Keras.
            loss: None for the model's own loss, which is the fast and exact one; else a Keras
                loss on the logits.
            metrics: Keras metrics on the logits; only together with a Keras `loss`, because the
                model's own loss never makes all logits.
            accumulate_steps: micro-batches that each replica's batch is cut into; their number
                must divide its rows. Only with the model's own loss.
            **kwargs: the rest of `keras.Model.compile`'s arguments. `jit_compile=True` compiles
                steps with XLA, on one device: each shape of a batch once.

        Raises:
            InputError: if XLA is asked for on several devices.
            ValueError: where the arguments contradict each other.
        """
        if kwargs.get("jit_compile") and self.distribute_strategy.num_replicas_in_sync > 1:
            raise InputError(
                "--xla compiles steps for one device, and there are "
                f"{self.distribute_strategy.num_replicas_in_sync}. Give --strategy one, or leave "
                "--xla out"
            )
        if loss is None and metrics:
            raise ValueError(
                "metrics on logits need a Keras loss as well, for example "
                "SparseCategoricalCrossentropy(from_logits=True). Received: "
                f"metrics={metrics!r}, loss=None"
            )
        if loss is not None and accumulate_steps != 1:
            raise ValueError(
                "accumulate_steps works with the model's own loss: leave `loss` out. "
                f"Received: accumulate_steps={accumulate_steps}, loss={loss!r}"
            )
        if loss is None and isinstance(optimizer, keras.optimizers.legacy.Optimizer):
            raise ValueError(
                "legacy optimizers don't work with the model's own loss. Give one of "
                f"keras.optimizers. Received: {optimizer!r}"
            )
        self._own_loss = loss is None
        self.accumulate_steps = accumulate_steps
        if self._own_loss:
            # Batches hold weights; an empty list tells Keras that no metric is missing.
            kwargs.setdefault("weighted_metrics", [])
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        if self._own_loss:
            # Set past Keras's tracking, so that its two variables are no part of the model:
            # not counted by `summary`, not saved by `save_weights`.
            with self.distribute_strategy.scope():
                object.__setattr__(self, "_loss_mean", keras.metrics.Mean(name="loss"))
                object.__setattr__(self, "_skipped", _Skipped(_counter(), _counter()))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `fit` resets at each epoch."""
        if self._own_loss and self._loss_mean is not None:
            return [self._loss_mean]
        return super().metrics

    # AutoGraph would take longer to read this code than TensorFlow takes to trace it.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one optimizer step on a batch `(features, targets, weights)`."""
        if not self._own_loss:
            return super().train_step(data)
        features, targets, weights = _unpack(data)
        variables = self.trainable_variables
        loss, weight, gradients = self._accumulate(features, targets, weights, variables)
        loss, weight, gradients = _sum_over_replicas(loss, weight, gradients)
        scale = tf.math.divide_no_nan(1.0, weight)
        if isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer):
            scale /= tf.cast(self.optimizer.loss_scale, tf.float32)
        # Of the sums, and not of the means: that would be one more pass over all of them.
        norm = scale * tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        self._apply(finite, gradients, variables, scale, norm)
        skipped = self._count(finite)
        loss, weight = (tf.where(finite, value, 0.0) for value in (loss, weight))
        return {
            "loss": self._add_to_mean(loss, weight),
            "step_loss": tf.where(finite, tf.math.divide_no_nan(loss, weight), math.nan),
            "gradient_norm": norm,
            "padding": _share_of_zeros(weights),
            "skipped": skipped.total,
            "skipped_in_a_row": skipped.in_a_row,
        }

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Add one batch `(features, targets, weights)` to the mean loss."""
        if not self._own_loss:
            return super().test_step(data)
        features, targets, weights = _unpack(data)
        loss, weight = self.loss_sum_and_weight(features, targets, weights, training=False)
        loss, weight, _ = _sum_over_replicas(loss, weight, [])
        return {"loss": self._add_to_mean(loss, weight)}

    def _add_to_mean(self, loss: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        # Both are global, and every replica adds the same: the mean is untouched.
        assert self._loss_mean is not None
        self._loss_mean.update_state(tf.math.divide_no_nan(loss, weight), sample_weight=weight)
        return self._loss_mean.result()

    def _apply(
        self,
        finite: tf.Tensor,
        gradients: list[Any],
        variables: list[tf.Variable],
        scale: tf.Tensor,
        norm: tf.Tensor,
    ) -> None:
        """Let the optimizer take a step, or count one without taking it.

        Args:
            finite: `<bool>[]`, whether to take it.
            gradients: sums over all rows.
            variables: as many.
            scale: `<float32>[]`, makes means of the sums.
            norm: `<float32>[]`, of the means.
        """
        optimizer = self.optimizer
        inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
        if hasattr(inner, "build"):
            with tf.init_scope():  # its variables can't be made within a branch
                inner.build(variables)

        def step(scale: tf.Tensor, norm: tf.Tensor, *gradients: Any) -> None:
            # Summed over replicas already.
            if hasattr(optimizer, "apply_scaled"):
                optimizer.apply_scaled(gradients, variables, scale=scale, norm=norm)
                return
            means = [tf.convert_to_tensor(g) * tf.cast(scale, g.dtype) for g in gradients]
            # All kinds of optimizers know this name.
            optimizer.apply_gradients(
                zip(means, variables, strict=True), experimental_aggregate_gradients=False
            )

        if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
            # It skips by itself what is not finite, and lowers its scale.
            steps = tf.identity(optimizer.iterations)
            step(tf.where(finite, scale, math.nan), norm, *gradients)
            optimizer.iterations.assign(steps + 1)
            return

        def step_or_not(strategy: tf.distribute.Strategy, finite: Any, *summed: Any) -> None:
            def take() -> tf.Tensor:
                strategy.extended.call_for_each_replica(step, args=summed)
                return tf.constant(True)

            def leave() -> tf.Tensor:
                optimizer.iterations.assign_add(1)
                return tf.constant(False)

            # Every replica has the same sums, and so the same opinion.
            tf.cond(strategy.experimental_local_results(finite)[0], take, leave)

        # Replicas can't branch one by one, because an optimizer synchronizes them.
        tf.distribute.get_replica_context().merge_call(
            step_or_not, args=(finite, scale, norm, *gradients)
        )

    @property
    def skipped_counts(self) -> tuple[int, int]:
        """Skipped steps: of all, and the newest ones in a row; a part of checkpoints."""
        if self._skipped is None:
            return 0, 0
        return int(self._skipped.total.numpy()), int(self._skipped.in_a_row.numpy())

    @skipped_counts.setter
    def skipped_counts(self, counts: tuple[int, int]) -> None:
        if self._skipped is not None:
            for counter, count in zip(self._skipped, counts, strict=True):
                counter.assign(count)

    def _count(self, finite: tf.Tensor) -> _Skipped:
        assert self._skipped is not None
        bad = tf.cast(~finite, tf.int64)
        total = self._skipped.total + bad
        in_a_row = (self._skipped.in_a_row + bad) * bad
        self._skipped.total.assign(total)
        self._skipped.in_a_row.assign(in_a_row)
        return _Skipped(total, in_a_row)

    def _accumulate(
        self,
        features: Any,
        targets: tf.Tensor,
        weights: tf.Tensor,
        variables: list[tf.Variable],
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Sums over this replica's micro-batches: loss, weight, dense gradients."""
        k = self.accumulate_steps
        if k == 1:
            return self._micro_batch((features, targets, weights), variables, tf.constant(0))

        batch = tf.nest.map_structure(lambda t: _split_rows(t, k), (features, targets, weights))

        def next_micro_batch(i: tf.Tensor, loss: Any, weight: Any, gradients: Any) -> Any:
            part = tf.nest.map_structure(lambda t: t[i], batch)
            more_loss, more_weight, more = self._micro_batch(part, variables, i)
            gradients = [a + b for a, b in zip(gradients, more, strict=True)]
            return i + 1, loss + more_loss, weight + more_weight, gradients

        start = (
            tf.constant(0),
            tf.constant(0.0),
            tf.constant(0.0),
            [tf.zeros(v.shape, v.dtype) for v in variables],
        )
        _, loss, weight, gradients = tf.while_loop(
            lambda i, *_: i < k, next_micro_batch, start, parallel_iterations=1
        )
        return loss, weight, gradients

    def _micro_batch(
        self, batch: _Batch, variables: list[tf.Variable], index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        features, targets, weights = batch
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss, weight = self.loss_sum_and_weight(
                features,
                targets,
                weights,
                training=True,
                dropout_seed=self._dropout_seed(index),
            )
            objective = loss
            scaled = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
            if scaled:
                # A mean stays in float16's range where a sum would not.
                positions = tf.cast(tf.size(weights), tf.float32)
                objective = self.optimizer.get_scaled_loss(loss / positions)
        gradients = tape.gradient(
            objective, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        if scaled:
            gradients = [tf.convert_to_tensor(g) * positions for g in gradients]
        # Sums over replicas and micro-batches need them dense; a table of words that stands alone
        # does not, until it is updated.
        alone = self.accumulate_steps == 1 and not tf.distribute.has_strategy()
        slices_stay = alone and not self.jit_compile  # XLA knows no rows without doubles
        as_needed = _without_doubles if slices_stay else tf.convert_to_tensor
        return loss, weight, [as_needed(g) for g in gradients]

    def _dropout_seed(self, micro_batch: tf.Tensor | int) -> tf.Tensor:
        """`<int64>[2]`, another for each (seed, step, replica, micro-batch), and none stored.

        Dropout drawn statelessly from it is the same in a run that was killed and resumed.
        """
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        lanes = context.num_replicas_in_sync * self.accumulate_steps
        lane = replica * self.accumulate_steps + tf.cast(micro_batch, tf.int64)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        return tf.stack([tf.constant(self.seed, tf.int64), step * lanes + lane])


def _without_doubles(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor | tf.IndexedSlices:
    """Add up the slices of each row, so that norms are right."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _counter() -> tf.Variable:
    """A number that every replica sets to the same value."""
    return tf.Variable(
        0,
        dtype=tf.int64,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _share_of_zeros(weights: tf.Tensor) -> tf.Tensor:
    """Over all replicas, `<float32>[]`."""
    zeros = tf.reduce_sum(tf.cast(weights == 0, tf.float32))
    count = tf.cast(tf.size(weights), tf.float32)
    zeros, count, _ = _sum_over_replicas(zeros, count, [])
    return tf.math.divide_no_nan(zeros, count)


def _unpack(data: Any) -> _Batch:
    features, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    if targets is None:
        raise ValueError(
            "a batch must be (features, targets) or (features, targets, weights). "
            f"Received: only features, {tf.nest.map_structure(lambda t: t.shape, features)}"
        )
    if weights is None:
        return features, targets, tf.ones(tf.shape(targets), tf.float32)
    weights = tf.convert_to_tensor(weights)
    while weights.shape.rank < targets.shape.rank:  # one weight for a whole row
        weights = weights[..., None]
    return features, targets, tf.broadcast_to(weights, tf.shape(targets))


def _split_rows(tensor: tf.Tensor, parts: int) -> tf.Tensor:
    """`[rows, …]` → `[parts, rows / parts, …]`."""
    return tf.reshape(tensor, tf.concat([[parts, -1], tf.shape(tensor)[1:]], axis=0))


def _sum_over_replicas(
    loss: tf.Tensor, weight: tf.Tensor, gradients: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return loss, weight, gradients
    summed = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, weight, *gradients])
    return summed[0], summed[1], summed[2:]
