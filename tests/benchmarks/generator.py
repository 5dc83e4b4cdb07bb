r"""Supervised fine-tuning beside PyTorch's: the same first weights, batches, rates and optimizer.

    python tests/benchmarks/generator.py torch samsum --data DATA --torch_python /venv/bin/python
    python tests/benchmarks/generator.py torch dailydialog --data DATA --torch_python …
    python tests/benchmarks/generator.py torch multi30k --data DATA --torch_python … --steps 50

This project's pipeline makes the batches, packed and weighted, and saves them with the model's
first folder and the learning rate of each step. Both train on them without dropout, whose random
numbers differ, and both measure the same validation batches. The environment of PyTorch is another
one than this project's (`pip install torch transformers`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WEIGHT_DECAY, CLIP_NORM, BETAS, EPSILON = 0.01, 1.0, (0.9, 0.999), 1e-8
ARRAYS = ("input_ids", "segment_ids", "position_ids", "targets", "weights")


def read(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """A template, and the parts that it is for."""
    from tfllm.data import tasks, templates

    of, data = templates.Template, arguments.data
    if arguments.set == "dailydialog":
        talk = templates.DialogueTemplate(of("{speaker}: {text}\n"), "all")
        folder = data / "dialogue" / "dailydialog"
        files = [[str(folder / f"dialogues_{part}.txt")] for part in ("train", "validation")]
        return talk, tasks.read_dialogues(*files)
    if arguments.set == "samsum":
        pair = templates.PairTemplate(of("{dialogue}\nTL;DR:"), of(" {summary}"))
        folder = data / "summarization" / "samsum"
        files = [[str(folder / f"{part}.jsonl")] for part in ("train", "validation")]
    else:
        pair = templates.PairTemplate(of("{source}\n"), of("{target}"))
        folder = data / "translation" / "multi30k_en_de"
        files = [[f"{folder / part}.en:{folder / part}.de"] for part in ("train", "val")]
    return pair, tasks.read_completions(*files, template=pair)


def save_batches(path: Path, batches: Any, steps: int) -> None:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
    for step in range(steps):
        features, targets, weights = batches.batch(step)
        for name, array in (features | {"targets": targets, "weights": weights}).items():
            rows[name].append(array.astype(np.uint16))
    np.savez(path, **{name: np.stack(arrays) for name, arrays in rows.items()})


def load_batches(path: Path) -> Any:
    """Yield one dictionary of `<int64>[rows, positions]` a step."""
    with np.load(path) as saved:
        arrays = {name: saved[name] for name in ARRAYS}
    for step in range(len(arrays["weights"])):
        yield {name: array[step].astype(np.int64) for name, array in arrays.items()}


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Save what both train on; the pipeline makes it as it does for the recipe."""
    from tfllm import data, text, training
    from tfllm.models import CausalLM, gpt2_sizes
    from tfllm.optimization.schedules import learning_rate_schedule

    training.set_seed(arguments.seed)
    template, parts = read(arguments)
    pieces = (piece.text for example in parts.train for piece in template.pieces(example))
    tokenizer = text.train_byte_level_bpe(pieces, arguments.vocabulary_size)
    sizes = {name: getattr(arguments, name) for name in ("num_layers", "num_heads", "hidden_dim")}
    config = gpt2_sizes.small_gpt2_config(
        tokenizer, positions=arguments.length, dropout=0.0, **sizes
    )
    model = CausalLM.from_config(config, seed=arguments.seed)
    model.save_pretrained(arguments.work / "initial", tokenizer)
    encoder = data.CompletionEncoder(data.FastTokenizer.of(tokenizer), template, arguments.length)
    train = data.completion_batches(parts.train, encoder, arguments.batch, seed=arguments.seed)
    validation = data.completion_batches(parts.validation, encoder, arguments.batch)
    steps = arguments.steps or train.steps_per_epoch
    save_batches(arguments.work / "train.npz", train, steps)
    save_batches(arguments.work / "validation.npz", validation, validation.steps_per_epoch)
    schedule = learning_rate_schedule(
        "linear", arguments.learning_rate, total_steps=steps, final_fraction=0.1
    )
    rates = np.array([float(schedule(step)) for step in range(steps)])
    np.save(arguments.work / "rates.npy", rates)
    return {"parameters": model.count_params(), "steps": steps, "train": str(train)}


def train_here(arguments: argparse.Namespace) -> dict[str, float]:
    import tensorflow as tf

    from tfllm import optimization
    from tfllm.models import CausalLM

    model = CausalLM.from_pretrained(arguments.work / "initial")
    steps = len(np.load(arguments.work / "rates.npy"))
    optimization.compile_model(
        model,
        arguments.learning_rate,
        total_steps=steps,
        schedule="linear",
        weight_decay=WEIGHT_DECAY,
        clip_norm=CLIP_NORM,
        beta_2=BETAS[1],
    )

    def dataset(name: str) -> Any:
        def batches() -> Any:
            for batch in load_batches(arguments.work / name):
                features = {key: batch[key].astype(np.int32) for key in ARRAYS[:3]}
                yield features, batch["targets"].astype(np.int32), batch["weights"].astype("f")

        shape = [arguments.batch, arguments.length]
        ids = tf.TensorSpec(shape, tf.int32)
        signature = (dict.fromkeys(ARRAYS[:3], ids), ids, tf.TensorSpec(shape, tf.float32))
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)

    start = time.perf_counter()
    model.fit(dataset("train.npz"), verbose=0)
    seconds = time.perf_counter() - start
    loss = model.evaluate(dataset("validation.npz"), verbose=0, return_dict=True)["loss"]
    return {"validation_loss": float(loss), "seconds": seconds}


def train_torch(arguments: argparse.Namespace) -> dict[str, float]:
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(arguments.work / "initial", attn_implementation="sdpa")
    named = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in named if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPSILON)
    causal = torch.ones(arguments.length, arguments.length).tril() > 0

    def summed_loss(batch: dict[str, np.ndarray]) -> tuple[Any, Any]:
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        segments = tensors["segment_ids"]
        sees = (segments[:, :, None] == segments[:, None, :]) & causal
        hidden = model.transformer(
            tensors["input_ids"],
            position_ids=tensors["position_ids"],
            attention_mask=sees[:, None],
            use_cache=False,
        )[0]
        learnt = tensors["weights"] > 0
        logits = model.lm_head(hidden[learnt])
        loss = torch.nn.functional.cross_entropy(
            logits, tensors["targets"][learnt], reduction="sum"
        )
        return loss, learnt.sum()

    start = time.perf_counter()
    model.train()
    rates = np.load(arguments.work / "rates.npy")
    for rate, batch in zip(rates, load_batches(arguments.work / "train.npz"), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        loss, weight = summed_loss(batch)
        (loss / weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    model.eval()
    with torch.inference_mode():
        sums = [summed_loss(batch) for batch in load_batches(arguments.work / "validation.npz")]
    loss = sum(float(loss) for loss, _ in sums) / sum(int(weight) for _, weight in sums)
    return {"validation_loss": loss, "seconds": seconds}


STEPS = {"prepare": prepare, "here": train_here, "torch": train_torch}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["torch"])
    parser.add_argument("set", choices=["samsum", "dailydialog", "multi30k"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--torch_python", required=True, help="Python of an environment with torch")
    parser.add_argument("--steps", type=int, help="optimizer steps; one epoch without it")
    parser.add_argument("--batch", type=int, default=16, help="packed rows of a step")
    parser.add_argument("--length", type=int, default=256, help="positions of a row")
    parser.add_argument("--vocabulary_size", type=int, default=4096)
    parser.add_argument("--num_layers", type=int, default=3)
    parser.add_argument("--num_heads", type=int, default=4)
    parser.add_argument("--hidden_dim", type=int, default=192)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", choices=[*STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(python: str, step: str, work: str) -> dict[str, Any]:
    """Run one step in a process of its own."""
    command = [python, __file__, *sys.argv[1:], "--here", step, "--work", work]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = parse()
    if arguments.here:
        print(json.dumps(STEPS[arguments.here](arguments)))
        return
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(run(sys.executable, "prepare", work)), flush=True)
        ours = run(sys.executable, "here", work)
        print(f"tfllm:   {json.dumps(ours)}", flush=True)
        theirs = run(arguments.torch_python, "torch", work)
        print(f"PyTorch: {json.dumps(theirs)}", flush=True)
    apart = ours["validation_loss"] / theirs["validation_loss"] - 1
    print(f"validation loss of tfllm against PyTorch's: {apart:+.3%}")
    print(f"seconds of PyTorch over tfllm's: {theirs['seconds'] / ours['seconds']:.2f}×")


if __name__ == "__main__":
    main()
