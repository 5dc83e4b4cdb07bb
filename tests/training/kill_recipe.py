"""A run that is killed again and again, and what it must leave all the same.

As a program it trains a small model with dropout, accumulation, an average of the weights, a
validation after each epoch and a checkpoint every second step, and prints a line for each step.
`run_whole` lets it end; `run_killed` kills it at random moments, and has it kill itself at those
where a kill is worst.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
STEPS_PER_EPOCH, ROWS, LENGTH, WORDS = 7, 8, 12, 29
# Within a save: weights half written; weights whole, no state; the best written, the step not yet;
# the old folder gone, the new one not there; an old one half dropped. And an epoch measured, not
# saved.
MOMENTS = ("weights", "state", "best", "replacing", "dropping", "validated")


# ------------------------------------------------------------------ who kills


def run_whole(folder: Path, *flags: object) -> dict[str, bytes]:
    """Train to the end; returns all files of the checkpoints and the best loss, by name."""
    process = start(folder, *flags)
    lines, _ = process.communicate()
    assert process.returncode == 0, f"the program failed:\n{lines}"
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "checkpoints").rglob("*"))
        if path.is_file()
    }
    return files | {"last line": lines.splitlines()[-1].encode()}


def run_killed(
    folder: Path,
    *flags: object,
    steps: int,
    kills: Sequence[str],
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, bytes]:
    """Train with a kill in each life, then to the end; returns what `run_whole` returns.

    Args:
        folder: the run folder.
        *flags: of the program.
        steps: of the whole run.
        kills: for each life "random" or one of `MOMENTS`.
        seed: of the random moments.
        say: takes a line about each life.
    """
    rng = random.Random(seed)
    flags = (*flags, "--steps", steps)
    # So few that the run is not over before the last kill.
    most = max(1, steps // (2 * len(kills)))
    for life, kind in enumerate(kills, 1):
        before = newest_step(folder)
        if kind == "random":
            process = start(folder, *flags)
            moment = kill_at_random(process, rng, most)
        else:
            process = start(
                folder, *flags, "--die", kind, "--at_step", before + rng.randint(1, most)
            )
            lines, _ = process.communicate()
            moment = f"{kind}, {lines.count('step ')} steps later"
        assert process.wait() == -signal.SIGKILL, f"life {life} was not killed at {moment}"
        say(f"life {life}: went on from step {before}, killed at {moment}")
    return run_whole(folder, *flags)


def start(folder: Path, *flags: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--run_dir", folder, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [*map(str, command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_at_random(process: subprocess.Popen[str], rng: random.Random, most: int) -> str:
    """Kill while TensorFlow starts, or somewhere within or after one of the next steps."""
    assert process.stdout is not None
    with process.stdout:
        if rng.random() < 0.15:
            time.sleep(seconds := rng.uniform(0, 3))
            moment = f"{seconds:.2f} s after its start"
        else:
            for step in range(wanted := rng.randint(1, most)):
                while not (line := process.stdout.readline()).startswith("step "):
                    assert line, f"the program ended after {step} steps"
            time.sleep(seconds := rng.uniform(0, 0.04))
            moment = f"{1000 * seconds:.0f} ms after {wanted} steps"
        process.kill()
    return moment


def newest_step(folder: Path) -> int:
    """Of the checkpoints that are whole."""
    return max((int(p.name[-9:]) for p in folder.glob("checkpoints/step-*")), default=0)


# ------------------------------------------------------------------ who is killed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--model", choices=["network", "causal_lm"], default="network")
    parser.add_argument("--die", choices=MOMENTS)
    parser.add_argument("--at_step", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.die:
        die_in_a_save(arguments.die, arguments.at_step)

    import tensorflow as tf

    if arguments.devices == 1:
        strategy = tf.distribute.get_strategy()
    else:
        cpu, each = (
            tf.config.list_physical_devices("CPU")[0],
            tf.config.LogicalDeviceConfiguration(),
        )
        tf.config.set_logical_device_configuration(cpu, [each] * arguments.devices)
        devices = [f"CPU:{i}" for i in range(arguments.devices)]
        strategy = tf.distribute.MirroredStrategy(devices)
    print(f"done, best {train(arguments, strategy)!r}", flush=True)


def train(arguments: argparse.Namespace, strategy) -> float:
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras

    from tfllm import optimization, training

    class SayStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None) -> None:
            print(f"step {int(self.model.optimizer.iterations.numpy())}", flush=True)

    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = create_network() if arguments.model == "network" else create_causal_lm()
        schedule = optimization.warmup_cosine(0.01, total_steps=arguments.steps)
        optimizer = optimization.adamw(schedule, model.trainable_variables, average_momentum=0.9)
        model.compile(optimizer, accumulate_steps=2)
    shape = arguments.steps, ROWS, LENGTH + 1
    ids = np.random.default_rng(0).integers(0, WORDS, shape).astype(np.int32)

    def batches(first_step: int, steps: int) -> tf.data.Dataset:
        part = ids[first_step : first_step + steps]
        return tf.data.Dataset.from_tensor_slices(({"input_ids": part[..., :-1]}, part[..., 1:]))

    epochs = -(-arguments.steps // STEPS_PER_EPOCH)

    def validate(epoch: int, step: int) -> dict[str, float]:
        """Each epoch is better than the one before, the last one excepted."""
        loss = model.evaluate(batches(0, 2), verbose=0, return_dict=True)["loss"]
        if arguments.die == "validated" and step >= arguments.at_step:
            die()
        return {"loss": loss - epoch if epoch < epochs else loss}

    trained = training.train(
        model,
        batches,
        validate,
        run_dir=arguments.run_dir,
        total_steps=arguments.steps,
        steps_per_epoch=STEPS_PER_EPOCH,
        tokens_per_step=ROWS * LENGTH,
        checkpoint_steps=2,
        callbacks=[SayStep()],
    )
    return trained.best["loss"]


def create_network():
    import tensorflow as tf
    import tf_keras as keras

    from tfllm.training.step import SummedLossModel

    class Network(SummedLossModel):
        """The next word from this one, with dropout between."""

        def __init__(self) -> None:
            super().__init__(seed=3)
            self.words = keras.layers.Embedding(WORDS, 16)
            self.out = keras.layers.Dense(WORDS)
            self.words.build([None])
            self.out.build([None, 16])

        def loss_sum_and_weight(
            self, features, targets, weights, *, training, dropout_seed=None
        ) -> tuple[tf.Tensor, tf.Tensor]:
            hidden = self.words(features["input_ids"])
            if training:
                hidden = tf.nn.experimental.stateless_dropout(hidden, 0.3, seed=dropout_seed)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, self.out(hidden))
            return tf.reduce_sum(losses * weights), tf.reduce_sum(weights)

    return Network()


def create_causal_lm():
    from transformers import GPT2Config

    from tfllm.models import CausalLM

    sizes = {"vocab_size": WORDS, "n_positions": LENGTH, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return CausalLM.from_config(GPT2Config(**sizes), seed=5)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_save(moment: str, at_step: int) -> None:
    """Have the first save at that step or later, for which the moment comes, be the last."""
    from tfllm.training.snapshot import Snapshot

    rename, write_text, rmtree, write = Path.rename, Path.write_text, shutil.rmtree, Snapshot.write
    newest = 0

    def half_written(self: Snapshot, prefix: Path) -> None:
        nonlocal newest
        newest = self.step
        write(self, prefix)
        if moment == "weights" and newest >= at_step:
            data = Path(f"{prefix}.data-00000-of-00001")
            os.truncate(data, data.stat().st_size // 2)
            die()

    def without_state(self: Path, *text, **options) -> int:
        if moment == "state" and newest >= at_step:
            die()
        return write_text(self, *text, **options)

    def not_renamed(self: Path, target: Path) -> Path:
        if target.name.startswith("step-") and newest >= at_step:
            best = target.with_name(f"best-{newest:09d}").exists()
            old = target.with_name(f".old-{target.name}").exists()
            if (moment == "best" and best) or (moment == "replacing" and old):
                die()
        return rename(self, target)

    def half_dropped(path: Path, **options) -> None:
        if moment == "dropping" and path.name.startswith("step-") and newest >= at_step:
            next(path.iterdir()).unlink()
            die()
        rmtree(path, **options)

    Snapshot.write = half_written  # type: ignore[method-assign]
    Path.write_text, Path.rename, shutil.rmtree = without_state, not_renamed, half_dropped


if __name__ == "__main__":
    main()
