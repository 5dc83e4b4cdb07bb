"""The planner beside what runs really take: peak memory and time of a step.

    python tests/benchmarks/planning.py --pretrained /folder/of/all-MiniLM-L6-v2   # 10 minutes
    python tests/benchmarks/planning.py --only gpt2 --steps 12

Each setting is a process of its own. The machine's speed is measured before each step, and a step
is compared with what the plan makes of that: the table gives the median over the steps, since a
shared machine changes from one second to the next. Memory is the process's high-water mark.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# (name, settings): from scratch, words · width · heads · layers; else the checkpoint given.
SETTINGS: dict[str, dict[str, Any]] = {
    "gpt2 3x128, 2k words": {"sizes": [2048, 128, 4, 3], "rows": 16, "tokens": 128},
    "gpt2 3x128, dropout": {"sizes": [2048, 128, 4, 3], "rows": 64, "tokens": 128, "dropout": 0.1},
    "gpt2 6x256, 8k words": {"sizes": [8192, 256, 4, 6], "rows": 32, "tokens": 256},
    "gpt2 6x384, 50k words": {"sizes": [50257, 384, 6, 6], "rows": 8, "tokens": 128},
    "gpt2 6x384, long": {"sizes": [50257, 384, 6, 6], "rows": 8, "tokens": 512},
    "bert 6x384, short": {"rows": 64, "tokens": 64},
    "bert 6x384": {"rows": 32, "tokens": 128},
    "bert 6x384, long": {"rows": 8, "tokens": 512},
    "bert 6x384, few": {"rows": 4, "tokens": 256},
    "bert 6x384, LoRA": {"rows": 32, "tokens": 128, "lora": 8},
    "bert 6x384, 4 frozen": {"rows": 16, "tokens": 256, "freeze": 4},
    "bert 6x384, in parts": {"rows": 64, "tokens": 128, "accumulate": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrained", type=Path, help="folder of a BERT; left out without it")
    parser.add_argument("--only", default="", help="settings whose name holds this")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.setting:
        print(json.dumps(run(arguments.setting, arguments.pretrained, arguments.steps)))
        return
    head = ("setting", "rows", "tokens", "MiB said", "MiB taken", "ratio", "ms said", "ms taken")
    print("{:24}{:>5}{:>7}{:>10}{:>10}{:>7}{:>9}{:>10}{:>7}".format(*head, "ratio"), flush=True)
    for name, setting in SETTINGS.items():
        wanted = arguments.only in name and (arguments.pretrained or "sizes" in setting)
        if wanted:
            print(line_of(name, setting, arguments), flush=True)


def line_of(name: str, setting: dict[str, Any], arguments: argparse.Namespace) -> str:
    command = [sys.executable, __file__, "--setting", name, "--steps", str(arguments.steps)]
    if arguments.pretrained:
        command += ["--pretrained", str(arguments.pretrained)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{name:24} failed: {done.stderr.strip().splitlines()[-1:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"{name:24}{setting['rows']:>5}{setting['tokens']:>7}{found['memory_said']:>10,.0f}"
        f"{found['memory_taken']:>10,.0f}{found['memory_said'] / found['memory_taken']:>7.2f}"
        f"{1000 * found['time_said']:>9,.0f}{1000 * found['time_taken']:>10,.0f}"
        f"{found['time_ratio']:>7.2f}  {found['moment']}, {found['gflops']:.0f} GFLOP/s"
    )


def run(name: str, pretrained: Path | None, steps: int) -> dict[str, Any]:
    """Train as the recipes do, on random ids, and compare."""
    from tfllm.cli.command_line import prepare_environment

    prepare_environment()
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras

    from tfllm import models, optimization, planning, training

    setting = SETTINGS[name]
    rows, tokens, parts = setting["rows"], setting["tokens"], setting.get("accumulate", 1)
    training.set_up(
        seed=0,
        precision="float32",
        strategy="auto",
        global_batch_size=rows,
        accumulate_steps=parts,
    )
    rng = np.random.default_rng(0)
    ones = np.ones([rows, tokens], np.int32)
    is_causal = "sizes" in setting
    if is_causal:
        words, width, heads, layers = setting["sizes"]
        rate = setting.get("dropout", 0.0)
        config = {"model_type": "gpt2", "vocab_size": words, "n_embd": width, "n_head": heads}
        config |= {"n_layer": layers, "n_positions": tokens, "embd_pdrop": rate}
        config |= {"resid_pdrop": rate, "attn_pdrop": rate}
        model = models.CausalLM.from_config(config)
    else:
        assert pretrained is not None
        config = json.loads((pretrained / "config.json").read_text())
        words = config["vocab_size"]
        model = models.TextClassifier.from_pretrained(pretrained, labels=("no", "yes"))
        rank = setting.get("lora")
        lora = rank and {"rank": rank, "alpha": 16.0, "dropout": 0.0, "targets": None}
        models.adapt(model, heads=("head",), freeze_layers=setting.get("freeze"), lora=lora)
    optimization.compile_model(model, 1e-4, total_steps=1000, accumulate_steps=parts)

    def batch() -> Any:
        ids = rng.integers(0, words, [rows, tokens + 1], dtype=np.int32)
        if is_causal:
            return {"input_ids": ids[:, :-1]}, ids[:, 1:], ones.astype(np.float32)
        features = {"input_ids": ids[:, 1:], "attention_mask": ones, "token_type_ids": 0 * ones}
        return features, ids[:, :1] % 2, np.ones([rows, 1], np.float32)

    batches = [batch() for _ in range(steps)]
    # Tasks are batched at any width, and their graph knows none.
    shapes = [rows, tokens] if is_causal else [None, None]
    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec(shapes if array.shape[1] > 1 else [None, 1], array.dtype),
        batches[0],
    )
    plan = planning.TrainingPlan(
        planning.ModelSizes.from_config(config, name),
        "causal_lm" if is_causal else "text_classifier",
        rows // parts,
        tokens,
        accumulate_steps=parts,
        freeze_layers=setting.get("freeze"),
        lora_rank=setting.get("lora"),
        is_loaded=not is_causal,
    )
    assert plan.parameters.total + plan.adapters == model.count_params()
    meter = planning.SpeedMeter(plan.positions, plan.sizes.hidden_dim, plan.sizes.inner_dim)

    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self._supports_tf_logs = True
            self.said: list[float] = []
            self.taken: list[float] = []
            self.flops: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            speed = meter.measure(rounds=2)
            self.flops.append(speed.flops)
            self.said.append(planning.estimate_step(plan, speed).total)
            self.begun = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(logs["loss"])  # waits for the step
            self.taken.append(time.perf_counter() - self.begun)

    clock = Clock()
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)
    model.fit(data, callbacks=[clock], verbose=0)
    said, taken = clock.said[2:steps], clock.taken[2:]  # Keras begins one more than there are
    memory = planning.estimate_memory(plan)
    return {
        "memory_said": memory.total / 2**20,
        "memory_taken": high_water_mark() / 2**20,
        "moment": memory.moment,
        "time_said": statistics.median(said),
        "time_taken": statistics.median(taken),
        "time_ratio": statistics.median(a / b for a, b in zip(said, taken, strict=True)),
        "gflops": statistics.median(clock.flops) / 1e9,
    }


def high_water_mark() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
