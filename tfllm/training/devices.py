"""Devices, strategies and number formats that a run trains with."""

from __future__ import annotations

import os

import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError

__all__ = ["check_batch", "create_strategy", "set_precision", "set_seed", "set_up"]


def set_up(
    *, seed: int, precision: str, strategy: str, global_batch_size: int, accumulate_steps: int
) -> tf.distribute.Strategy:
    """Choose randomness, number format and devices of a process, before a model is made.

    Args:
        seed: see `set_seed`.
        precision: see `set_precision`.
        strategy: see `create_strategy`.
        global_batch_size: rows of a step; see `check_batch`.
        accumulate_steps: micro-batches of a step.

    Raises:
        InputError: see the functions named.
    """
    set_seed(seed)
    set_precision(precision)
    created = create_strategy(strategy)
    check_batch(global_batch_size, accumulate_steps, created)
    return created


def create_strategy(name: str) -> tf.distribute.Strategy:
    """Create the distribution strategy that a flag names.

    Args:
        name: `one`: the default device. `mirrored`: all GPUs, or all logical CPUs.
            `multi_worker`: the workers that `TF_CONFIG` names, each with all its GPUs; waits for
            all of them. `auto`: those workers where there is `TF_CONFIG`, or all GPUs, or one
            device where there is neither.

    Raises:
        InputError: for `multi_worker` without `TF_CONFIG`, or with one that can't be used.
    """
    if name == "multi_worker" or (name == "auto" and os.environ.get("TF_CONFIG")):
        return _create_multi_worker_strategy()
    if name == "auto":
        name = "mirrored" if tf.config.list_physical_devices("GPU") else "one"
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy([d.name for d in tf.config.list_logical_devices(kind)])


def _create_multi_worker_strategy() -> tf.distribute.Strategy:
    if not os.environ.get("TF_CONFIG"):
        raise InputError(
            "--strategy multi_worker needs the environment variable TF_CONFIG, which names the "
            "workers. Start them with python recipes/launch_workers.py --workers 2 -- RECIPE "
            "--run_dir FOLDER, or set it on each machine"
        )
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        task = resolver.task_type, resolver.task_id
        resolver.cluster_spec().task_address(*task)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG can't be used: {error}. Received: {os.environ['TF_CONFIG']}. Give "
            '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": N}}'
        ) from error
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def check_batch(
    global_batch_size: int, accumulate_steps: int, strategy: tf.distribute.Strategy
) -> None:
    """See that a batch can be dealt evenly to the devices of all workers and micro-batches.

    Raises:
        InputError: with the numbers.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % (replicas * accumulate_steps):
        raise InputError(
            f"--global_batch_size {global_batch_size} can't be dealt to {replicas} device(s) with "
            f"--accumulate_steps {accumulate_steps}: give a multiple of "
            f"{replicas * accumulate_steps}"
        )


def set_precision(name: str) -> None:
    """Choose the number format of layers created from here on (Keras's global policy)."""
    keras.mixed_precision.set_global_policy(name)


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and ask TensorFlow for deterministic kernels."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
