"""One training step for every model: a loss is a sum, divided once by the global weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["SummedLossModel"]

_Batch = tuple[Any, Any, Any]
# What is added up over micro-batches and replicas, by name.
_Sums = dict[str, tf.Tensor]


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

    A subclass gives `call` (features → logits) and `loss_sum_and_weight`. One with several losses
    gives `objectives` and `objective_sums` instead: targets and weights are dictionaries by
    objective, each has a mean of its own over the weight of the whole global batch, and the loss is
    `Σ share · mean`. An objective without weight in a batch adds nothing. Callbacks are told of
    each step's `<name>_loss` and `<name>_accuracy` as well, and `evaluate` gives their means.
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
        self._objective_means: dict[str, keras.metrics.Mean]
        object.__setattr__(self, "_objective_means", {})  # past Keras's tracking, see `compile`
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

    @property
    def objectives(self) -> Mapping[str, float]:
        """Name of each objective → its share of the loss; empty for a model with one loss."""
        return {}

    def objective_sums(
        self,
        features: Any,
        targets: Mapping[str, tf.Tensor],
        weights: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Give each objective's summed loss and the weight that is right, `<float32>[]` each."""
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
            # Set past Keras's tracking, so that their variables are no part of the model:
            # not counted by `summary`, not saved by `save_weights`.
            with self.distribute_strategy.scope():
                object.__setattr__(self, "_loss_mean", keras.metrics.Mean(name="loss"))
                object.__setattr__(self, "_skipped", _Skipped(_counter(), _counter()))
                ends = ("loss", "accuracy")
                names = [f"{name}_{end}" for name in self.objectives for end in ends]
                means = {name: keras.metrics.Mean(name=name) for name in names}
                object.__setattr__(self, "_objective_means", means)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `fit` resets at each epoch."""
        if self._own_loss and self._loss_mean is not None:
            return [self._loss_mean, *self._objective_means.values()]
        return super().metrics

    # AutoGraph would take longer to read this code than TensorFlow takes to trace it.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one optimizer step on a batch `(features, targets, weights)`."""
        if not self._own_loss:
            return super().train_step(data)
        features, targets, weights = _unpack(data)
        variables = self.trainable_variables
        weight_of = self._objective_weights(weights)
        sums, gradients = self._accumulate((features, targets, weights), variables, weight_of)
        *totals, gradients = _sum_over_replicas([*sums.values(), *gradients], len(sums))
        sums = dict(zip(sums, totals, strict=True))
        # With objectives the loss is divided by their weights already.
        loss = sums["loss"]
        weight = _any_weight(weight_of) if weight_of else sums["weight"]
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
            "padding": self._padding(features, weights),
            "skipped": skipped.total,
            "skipped_in_a_row": skipped.in_a_row,
            **_means(sums, weight_of),
        }

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Add one batch `(features, targets, weights)` to the mean loss."""
        if not self._own_loss:
            return super().test_step(data)
        features, targets, weights = _unpack(data)
        if self.objectives:
            return self._test_objectives(features, targets, weights)
        sums = self.loss_sum_and_weight(features, targets, weights, training=False)
        loss, weight, _ = _sum_over_replicas([*sums], 2)
        return {"loss": self._add_to_mean(loss, weight)}

    def _test_objectives(self, features: Any, targets: Any, weights: Any) -> dict[str, tf.Tensor]:
        weight_of = self._objective_weights(weights)
        found = self.objective_sums(features, targets, weights, training=False)
        sums = _named(found)
        *totals, _ = _sum_over_replicas([*sums.values()], len(sums))
        for name, mean in _means(dict(zip(sums, totals, strict=True)), weight_of).items():
            objective = name.rpartition("_")[0]
            self._objective_means[name].update_state(mean, sample_weight=weight_of[objective])
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """Give the metrics as they are now; of a model with objectives, the loss of their means."""
        results = super().get_metrics_result()
        parts = [share * results.get(f"{o}_loss", 0.0) for o, share in self.objectives.items()]
        return {**results, "loss": tf.add_n(parts)} if self._own_loss and parts else results

    def _objective_weights(self, weights: Any) -> _Sums:
        """Each objective's weight in the whole global batch; nothing for a model with one loss."""
        names = [*self.objectives]
        if not names:
            return {}
        missing = [
            name for name in names if not isinstance(weights, Mapping) or name not in weights
        ]
        if missing:
            raise ValueError(
                f"targets and weights must be dictionaries with {', '.join(names)}. Missing: "
                f"{', '.join(missing)}"
            )
        local = [tf.reduce_sum(tf.cast(weights[name], tf.float32)) for name in names]
        *totals, _ = _sum_over_replicas(local, len(local))
        return dict(zip(names, totals, strict=True))

    def _padding(self, features: Any, weights: Any) -> tf.Tensor:
        """Share of positions without a target over all replicas, `<float32>[]`."""
        return _share_of_zeros(weights)

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
        self, batch: _Batch, variables: list[tf.Variable], weight_of: _Sums
    ) -> tuple[_Sums, list[tf.Tensor]]:
        """Sums over this replica's micro-batches, and of their dense gradients."""
        k = self.accumulate_steps
        if k == 1:
            return self._micro_batch(batch, variables, tf.constant(0), weight_of)

        batch = tf.nest.map_structure(lambda t: _split_rows(t, k), batch)

        def next_micro_batch(i: tf.Tensor, sums: _Sums, gradients: Any) -> Any:
            part = tf.nest.map_structure(lambda t: t[i], batch)
            more_sums, more = self._micro_batch(part, variables, i, weight_of)
            sums = {name: total + more_sums[name] for name, total in sums.items()}
            return i + 1, sums, [a + b for a, b in zip(gradients, more, strict=True)]

        names = ["loss", "weight"]
        if weight_of:
            nothing = tf.constant(0.0)
            names = ["loss", *_named({name: (nothing, nothing) for name in weight_of})]
        start = (
            tf.constant(0),
            {name: tf.constant(0.0) for name in names},
            [tf.zeros(v.shape, v.dtype) for v in variables],
        )
        _, sums, gradients = tf.while_loop(
            lambda i, *_: i < k, next_micro_batch, start, parallel_iterations=1
        )
        return sums, gradients

    def _micro_batch(
        self, batch: _Batch, variables: list[tf.Variable], index: tf.Tensor, weight_of: _Sums
    ) -> tuple[_Sums, list[tf.Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            sums = self._training_sums(batch, self._dropout_seed(index), weight_of)
            objective = sums["loss"]
            scaled = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
            positions = tf.constant(1.0)
            if scaled:
                if not weight_of:
                    # A mean stays in float16's range where a sum would not.
                    sizes = [tf.size(weights) for weights in tf.nest.flatten(batch[2])]
                    positions = tf.cast(tf.add_n(sizes), tf.float32)
                objective = self.optimizer.get_scaled_loss(objective / positions)
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
        return sums, [as_needed(g) for g in gradients]

    def _training_sums(self, batch: _Batch, dropout_seed: tf.Tensor, weight_of: _Sums) -> _Sums:
        """Sum up a micro-batch: `loss`, and its `weight` or each objective's sums."""
        if not weight_of:
            sums = self.loss_sum_and_weight(*batch, training=True, dropout_seed=dropout_seed)
            return dict(zip(("loss", "weight"), sums, strict=True))
        found = self.objective_sums(*batch, training=True, dropout_seed=dropout_seed)
        # Divided here and not at the end, because each has a weight of its own.
        parts = [
            tf.math.divide_no_nan(share, weight_of[name]) * found[name][0]
            for name, share in self.objectives.items()
        ]
        return {"loss": tf.add_n(parts), **_named(found)}

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


def _share_of_zeros(weights: Any) -> tf.Tensor:
    """Over all replicas, `<float32>[]`."""
    given = tf.nest.flatten(weights)
    zeros = tf.add_n([tf.reduce_sum(tf.cast(w == 0, tf.float32)) for w in given])
    count = tf.add_n([tf.cast(tf.size(w), tf.float32) for w in given])
    zeros, count, _ = _sum_over_replicas([zeros, count], 2)
    return tf.math.divide_no_nan(zeros, count)


def _named(found: Mapping[str, tuple[tf.Tensor, tf.Tensor]]) -> _Sums:
    """Name objectives' sums: `<name>_loss`, `<name>_accuracy`."""
    ends = ("loss", "accuracy")
    return {f"{o}_{end}": s for o, pair in found.items() for end, s in zip(ends, pair, strict=True)}


def _means(sums: _Sums, weight_of: _Sums) -> _Sums:
    """Divide objectives' sums by their weights; 0 for one without weight."""
    return {
        f"{name}_{end}": tf.math.divide_no_nan(sums[f"{name}_{end}"], weight)
        for name, weight in weight_of.items()
        for end in ("loss", "accuracy")
    }


def _any_weight(weight_of: _Sums) -> tf.Tensor:
    """1 where an objective has weight, else 0: `<float32>[]`."""
    return tf.cast(tf.reduce_any([weight > 0 for weight in weight_of.values()]), tf.float32)


def _unpack(data: Any) -> _Batch:
    features, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    if targets is None:
        raise ValueError(
            "a batch must be (features, targets) or (features, targets, weights). "
            f"Received: only features, {tf.nest.map_structure(lambda t: t.shape, features)}"
        )
    if isinstance(targets, Mapping):
        given = weights if isinstance(weights, Mapping) else {}
        whole = {name: _whole(target, given.get(name)) for name, target in targets.items()}
        return features, targets, whole
    return features, targets, _whole(targets, weights)


def _whole(targets: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """Give each target a weight: 1 without weights."""
    if weights is None:
        return tf.ones(tf.shape(targets), tf.float32)
    weights = tf.convert_to_tensor(weights)
    while weights.shape.rank < targets.shape.rank:  # one weight for a whole row
        weights = weights[..., None]
    return tf.broadcast_to(weights, tf.shape(targets))


def _split_rows(tensor: tf.Tensor, parts: int) -> tf.Tensor:
    """`[rows, …]` → `[parts, rows / parts, …]`."""
    return tf.reshape(tensor, tf.concat([[parts, -1], tf.shape(tensor)[1:]], axis=0))


def _sum_over_replicas(tensors: list[tf.Tensor], first: int) -> list[Any]:
    """Add over replicas: the `first` ones each by itself, then a list of the rest."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        tensors = context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
    return [*tensors[:first], [*tensors[first:]]]
