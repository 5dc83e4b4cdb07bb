"""Training speed and memory beside transformers' TF classes, KerasHub and PyTorch.

    python tests/benchmarks/training.py                       # every comparison, about 20 minutes
    python tests/benchmarks/training.py step_overhead         # one of them
    python tests/benchmarks/training.py fit --length 512 --rounds 3
    python tests/benchmarks/training.py fit --torch_python /other/venv/bin/python

Each measurement is a process of its own; the candidates take turns, and the medians of the rounds
are compared, because the speed of a shared machine drifts. PyTorch lives in an environment of its
own (`pip install torch transformers`), since transformers behaves otherwise where torch is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LAYERS, WIDTH, HEADS, WORDS, ROWS = 6, 384, 6, 50_257, 8
CANDIDATES = ("tfllm", "transformers", "keras_hub", "torch")


def peak_mib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def token_batches(length: int, steps: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, WORDS, (steps, ROWS, length + 1), dtype=np.int32)


def keras_clock() -> Any:
    import tf_keras as keras

    return make_clock(keras.callbacks.Callback)


def make_clock(base: type) -> Any:
    class Clock(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.ends: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ends.append(time.perf_counter())

    return Clock()


def measured(ends: list[float], begun: float, length: int) -> dict[str, float]:
    """The median step without the first two, which build graphs and fill caches."""
    steps = [b - a for a, b in zip(ends[1:], ends[2:], strict=False)]
    return {
        "tokens_per_second": ROWS * length / statistics.median(steps),
        "first_step_s": ends[0] - begun,
        "peak_mib": peak_mib(),
    }


def run_tfllm(length: int, steps: int) -> dict[str, float]:
    begun = time.perf_counter()
    from tfllm.cli.command_line import prepare_environment

    prepare_environment()  # as each recipe does
    import tensorflow as tf

    from tfllm import optimization
    from tfllm.models import CausalLM

    model_class = CausalLM  # before transformers' own import, which it makes lighter
    from transformers import GPT2Config

    model = model_class.from_config(gpt2_config(GPT2Config, length))
    optimizer = optimization.adamw(1e-4, model.trainable_variables, weight_decay=0.01)
    model.compile(optimizer)
    ids = token_batches(length, steps)
    data = tf.data.Dataset.from_tensor_slices(({"input_ids": ids[..., :-1]}, ids[..., 1:]))
    clock = keras_clock()
    model.fit(data, verbose=0, callbacks=[clock])
    return measured(clock.ends, begun, length)


def run_transformers(length: int, steps: int) -> dict[str, float]:
    begun = time.perf_counter()
    import tensorflow as tf
    from transformers import GPT2Config, TFGPT2LMHeadModel, create_optimizer

    model = TFGPT2LMHeadModel(gpt2_config(GPT2Config, length))
    optimizer, _ = create_optimizer(1e-4, steps, 0, weight_decay_rate=0.01)
    model.compile(optimizer=optimizer)
    ids = token_batches(length, steps)
    # Its loss shifts by itself, so that a row of `length` tokens gives one target less.
    data = tf.data.Dataset.from_tensor_slices(
        {"input_ids": ids[..., :-1], "labels": ids[..., :-1].astype("int64")}
    )
    clock = keras_clock()
    model.fit(data, verbose=0, callbacks=[clock])
    return measured(clock.ends, begun, length)


def run_keras_hub(length: int, steps: int) -> dict[str, float]:
    begun = time.perf_counter()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf
    from keras_nlp.models import GPT2Backbone, GPT2CausalLM

    backbone = GPT2Backbone(
        vocabulary_size=WORDS,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=4 * WIDTH,
        max_sequence_length=length,
    )
    model = GPT2CausalLM(backbone, preprocessor=None)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-4, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    ids = token_batches(length, steps)
    features = {"token_ids": ids[..., :-1], "padding_mask": ids[..., :-1] >= 0}
    data = tf.data.Dataset.from_tensor_slices((features, ids[..., 1:]))
    clock = make_clock(keras.callbacks.Callback)
    model.fit(data, verbose=0, callbacks=[clock])
    return measured(clock.ends, begun, length)


def run_torch(length: int, steps: int) -> dict[str, float]:
    begun = time.perf_counter()
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(gpt2_config(GPT2Config, length))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    ends = []
    for batch in token_batches(length, steps):
        ids = torch.from_numpy(batch).long()
        logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, WORDS), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ends.append(time.perf_counter())
    return measured(ends, begun, length)


def gpt2_config(kind: Any, length: int) -> Any:
    return kind(vocab_size=WORDS, n_positions=length, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)


def compare_fits(arguments: argparse.Namespace) -> None:
    results: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.candidates}
    for number in range(arguments.rounds):
        for name in arguments.candidates:
            python = arguments.torch_python if name == "torch" else sys.executable
            command = [python, __file__, "one", "--candidate", name]
            command += ["--length", str(arguments.length), "--steps", str(arguments.steps)]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            if found.returncode:
                print(f"{name} failed: {found.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            results[name].append(json.loads(found.stdout.splitlines()[-1]))
            print(f"  round {number + 1} {name}: {results[name][-1]}", flush=True)
    print(
        f"\nGPT-2, {LAYERS} layers × {WIDTH}, {WORDS:,} words, {ROWS} × {arguments.length} tokens"
    )
    print("| | tokens/s | of it, tfllm is | peak MiB | first step, s |\n|---|---|---|---|---|")
    median = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in results.items()
        if rows
    }
    for name, row in median.items():
        ratio = median["tfllm"]["tokens_per_second"] / row["tokens_per_second"]
        print(
            f"| {name} | {row['tokens_per_second']:.0f} | {ratio:.2f}× | {row['peak_mib']:.0f} "
            f"| {row['first_step_s']:.1f} |"
        )


def compare_steps(arguments: argparse.Namespace) -> None:
    """Our `fit` with every callback of a run, beside a bare loop over a `tf.function`."""
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    from transformers import GPT2Config

    from tfllm import optimization
    from tfllm.models import CausalLM
    from tfllm.training.progress import Progress
    from tfllm.training.step_guard import StepGuard
    from tfllm.training.tensorboard import TensorBoardLog

    def build() -> Any:
        config = GPT2Config(vocab_size=512, n_positions=32, n_embd=32, n_layer=2, n_head=2)
        model = CausalLM.from_config(config)
        model.compile(optimization.adamw(1e-3, model.trainable_variables))
        return model

    ids = np.random.default_rng(0).integers(0, 512, (8, 33)).astype(np.int32)
    weights = np.ones((8, 32), np.float32)
    one = ({"input_ids": ids[:, :-1]}, ids[:, 1:], weights)
    steps = 200

    def batches(first: int, count: int) -> Any:
        return tf.data.Dataset.from_tensors(one).repeat(count).prefetch(2)

    fitted, bare = build(), build()
    folder = Path(tempfile.mkdtemp())  # for event files
    progress = Progress(first_step=0, total_steps=10**6, tokens_per_step=256)
    callbacks = [
        progress,
        TensorBoardLog(folder, tokens_per_step=256),
        StepGuard(batches, folder),
    ]
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1, global_clipnorm=1.0)
    variables = bare.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False)
    def hand_written(features: Any, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss, weight = bare.loss_sum_and_weight(
                features,
                targets,
                weights,
                training=True,
                dropout_seed=tf.constant([0, 0], tf.int64),
            )
            loss = loss / weight
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def by_fit() -> float:
        start = time.perf_counter()
        fitted.fit(batches(0, steps), steps_per_epoch=steps, verbose=0, callbacks=callbacks)
        return (time.perf_counter() - start) / steps

    def by_hand() -> float:
        start = time.perf_counter()
        for features, targets, weights in batches(0, steps):
            loss = hand_written(features, targets, weights)
        loss.numpy()
        return (time.perf_counter() - start) / steps

    by_fit(), by_hand()
    pairs = [(by_fit(), by_hand()) for _ in range(arguments.rounds * 3)]
    ours, theirs = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
    more = 1000 * statistics.median(a - b for a, b in pairs)
    print(
        f"\nStep of a tiny model: fit {ours:.2f} ms, by hand {theirs:.2f} ms, {more:+.2f} ms a step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", nargs="?", default="all", choices=["all", "fit", "step_overhead", "one"]
    )
    parser.add_argument("--candidate", choices=CANDIDATES)
    parser.add_argument("--candidates", nargs="+", default=["tfllm", "transformers", "keras_hub"])
    parser.add_argument("--torch_python", help="Python of an environment with torch")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.torch_python and "torch" not in arguments.candidates:
        arguments.candidates.append("torch")
    if arguments.what == "one":
        run = globals()[f"run_{arguments.candidate}"]
        print(json.dumps(run(arguments.length, arguments.steps)))
        return
    if arguments.what in ("all", "step_overhead"):
        compare_steps(arguments)
    if arguments.what in ("all", "fit"):
        lengths = [128, 512] if arguments.what == "all" else [arguments.length]
        for arguments.length in lengths:
            compare_fits(arguments)


if __name__ == "__main__":
    main()
