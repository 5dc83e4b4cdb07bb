"""A recipe of seconds, for tests of several workers: a small network, trained, weights saved.

A worker can be told to fail, once: a file `failed` in the working directory says that it has.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

from tfllm import cli

ROWS, WIDTH, STEPS, STEPS_PER_EPOCH = 8, 12, 9, 3


@dataclasses.dataclass(frozen=True)
class Config(cli.CommonConfig):
    networks: tuple[str, ...] = ("plain", "dropout")
    fail: str = "no"
    worker: int = 1
    at_step: int = 5


def main(config: Config, run: cli.Run) -> None:
    run.say("Starting TensorFlow …")
    if config.fail == "die_before_joining" and is_my_turn(config):
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fail == "never_join" and is_my_turn(config):
        time.sleep(3600)
    from tfllm import training

    training.set_seed(config.seed)
    strategy = training.create_strategy(config.strategy)
    training.check_batch(ROWS, config.accumulate_steps, strategy)
    run_dir = run.open()
    for name in config.networks:
        train_network(config, run_dir / name, strategy, dropout=0.3 * (name == "dropout"))
    if not run.is_chief:
        return
    run.say("Exporting …")


def train_network(config: Config, run_dir: Path, strategy, *, dropout: float) -> None:
    """Train in a folder; the chief leaves `weights.npz` in it, optimizer and all."""
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras

    from tfllm.training import loop
    from tfllm.training.step import SummedLossModel
    from tfllm.training.tensorboard import TensorBoardLog

    class Network(SummedLossModel):
        """Two layers with dropout between them."""

        def __init__(self) -> None:
            super().__init__(seed=3)
            start = keras.initializers.GlorotUniform
            self.hidden = keras.layers.Dense(16, "tanh", kernel_initializer=start(1))
            self.out = keras.layers.Dense(1, kernel_initializer=start(2))
            self.out.build([None, 16])
            self.hidden.build([None, WIDTH])

        def loss_sum_and_weight(
            self, features, targets, weights, *, training, dropout_seed=None
        ) -> tuple[tf.Tensor, tf.Tensor]:
            hidden = self.hidden(features)
            if training and dropout:
                hidden = tf.nn.experimental.stateless_dropout(hidden, dropout, seed=dropout_seed)
            errors = tf.square(self.out(hidden) - targets)
            return tf.reduce_sum(errors * weights), tf.reduce_sum(weights)

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None) -> None:
            if int(self.model.optimizer.iterations.numpy()) < config.at_step:
                return
            kinds = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "freeze": signal.SIGSTOP}
            if config.fail in kinds and is_my_turn(config):
                os.kill(os.getpid(), kinds[config.fail])

    data = examples()

    def batches(first_step: int, steps: int, *, worker: int = 0, workers: int = 1):
        share = ROWS // workers
        mine = [part[:, worker * share : (worker + 1) * share] for part in data]
        mine = [part[first_step : first_step + steps] for part in mine]
        return tf.data.Dataset.from_tensor_slices(tuple(mine))

    with strategy.scope():
        model = Network()
        optimizer = keras.optimizers.AdamW(0.01) if dropout else keras.optimizers.SGD(0.1)
        model.compile(optimizer, accumulate_steps=config.accumulate_steps)
    held_out = tf.data.Dataset.from_tensor_slices(tuple(part[:3] for part in data))
    if dropout:
        fit_with(Fail(), loop)
        if config.fail == "while_writing":
            kill_while_writing(config)
    trained = loop.train(
        model,
        batches,
        lambda epoch, step: model.evaluate(held_out, verbose=0, return_dict=True),
        run_dir=run_dir,
        total_steps=STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        tokens_per_step=ROWS,
        callbacks=[TensorBoardLog(run_dir, tokens_per_step=ROWS)] if this_worker() == 0 else [],
    )
    if this_worker() == 0:
        weights = [weight.numpy() for weight in (*model.weights, *model.optimizer.variables)]
        np.savez(run_dir / "weights.npz", *weights, best=trained.best["loss"])


def examples():
    """Features, targets, unequal weights: `<float32>[steps, rows, …]`; one step's end is empty."""
    import numpy as np

    rng = np.random.default_rng(0)
    features = rng.normal(size=(STEPS, ROWS, WIDTH)).astype(np.float32)
    targets = np.sin(features.sum(-1, keepdims=True))
    weights = rng.integers(0, 3, (STEPS, ROWS, 1)).astype(np.float32)
    weights[2, ROWS // 2 :] = 0.0  # worker 1 of 2 has nothing to learn from
    return features, targets, weights


def fit_with(callback, loop) -> None:
    """Have `loop.train` call one more callback."""
    plain = loop.fit_steps
    loop.fit_steps = lambda *a, **k: plain(*a, **k | {"callbacks": [*k["callbacks"], callback]})


def kill_while_writing(config: Config) -> None:
    """Have a worker die with a checkpoint's weights written, and its state not."""
    from tfllm.training.snapshot import Snapshot

    plain = Snapshot.write

    def write(self, prefix):
        plain(self, prefix)
        if self.step >= config.at_step and is_my_turn(config):
            os.kill(os.getpid(), signal.SIGKILL)

    Snapshot.write = write


def this_worker() -> int:
    import json

    return json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]


def is_my_turn(config: Config) -> bool:
    """Whether this worker is the one to fail, and has not."""
    if this_worker() != config.worker or Path("failed").exists():
        return False
    Path("failed").touch()
    return True


if __name__ == "__main__":
    cli.main(Config, main, __file__)
