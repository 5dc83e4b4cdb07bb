"""A step of masked pretraining beside transformers' TF class.

    python tests/benchmarks/masked.py step
    python tests/benchmarks/masked.py step --steps 20

Both train a BERT of 6 layers (384 wide, 12 heads, 30,522 words) on the same 32 rows of 128 tokens,
15% of them masked, with AdamW and clipping: `MaskedLM`, and `TFBertForMaskedLM` with its own loss,
by the step that `fit` takes. Both live in one process and take turns step by step, and the median
of the pairs' ratios counts, because the speed of a shared machine drifts from second to second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LAYERS, WIDTH, HEADS, INNER, WORDS = 6, 384, 12, 1536, 30_522
ROWS, TOKENS, SLOTS, MASK_ID = 32, 128, 20, 103
WARM_UP = 2
Step = Callable[[int], float]


def config() -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=512,
    )


def rows(steps: int) -> tuple[Any, Any, Any]:
    """Ids with masks, the masks' places in order, and what was there."""
    import numpy as np

    rng = np.random.default_rng(0)
    ids = rng.integers(1000, WORDS, [steps, ROWS, TOKENS]).astype(np.int32)
    order = rng.random([steps, ROWS, TOKENS - 2]).argsort(axis=-1)[..., :SLOTS] + 1
    places = np.sort(order, axis=-1).astype(np.int32)
    targets = np.take_along_axis(ids, places, -1)
    np.put_along_axis(ids, places, MASK_ID, -1)
    return ids, places, targets


def tfllm_step(steps: int) -> Step:
    import numpy as np

    from tfllm import optimization
    from tfllm.models import MaskedLM

    ids, places, targets = rows(steps)
    model = MaskedLM.from_config(config())
    model.compile(optimization.adamw(1e-4, model.trainable_variables, clip_norm=1.0))

    def step(i: int) -> float:
        features = {
            "input_ids": ids[i],
            "attention_mask": np.ones_like(ids[i]),
            "masked_positions": places[i],
        }
        weights = {"masked_lm": np.ones(targets[i].shape, np.float32)}
        logs = model.train_on_batch(features, {"masked_lm": targets[i]}, weights, return_dict=True)
        return logs["step_loss"]

    return step


def transformers_step(steps: int) -> Step:
    import numpy as np
    import tf_keras as keras
    from transformers import TFBertForMaskedLM

    ids, places, targets = rows(steps)
    labels = np.full_like(ids, -100)
    np.put_along_axis(labels, places, targets, -1)
    model = TFBertForMaskedLM(config())
    model.compile(keras.optimizers.AdamW(1e-4, weight_decay=0.1, global_clipnorm=1.0))

    def step(i: int) -> float:
        features = {
            "input_ids": ids[i],
            "attention_mask": np.ones_like(ids[i]),
            "labels": labels[i],
        }
        return model.train_on_batch(features, return_dict=True)["loss"]

    return step


def timed(step: Step, i: int) -> tuple[float, float]:
    """Seconds, and the loss, whose reading waits for the step."""
    begun = time.perf_counter()
    loss = float(step(i))
    return time.perf_counter() - begun, loss


def compare(steps: int) -> None:
    ours, theirs = tfllm_step(steps + WARM_UP), transformers_step(steps + WARM_UP)
    pairs = []
    for i in range(steps + WARM_UP):
        (our_time, our_loss), (their_time, their_loss) = timed(ours, i), timed(theirs, i)
        print(
            f"step {i + 1}: tfllm {our_time:.2f} s (loss {our_loss:.2f}), "
            f"transformers {their_time:.2f} s (loss {their_loss:.2f})",
            flush=True,
        )
        pairs.append((our_time, their_time))
    pairs = pairs[WARM_UP:]
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = statistics.median(their_time / our_time for our_time, their_time in pairs)
    print(f"median step: tfllm {medians[0]:.2f} s, transformers {medians[1]:.2f} s: {ratio:.2f}×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["step"])
    parser.add_argument("--steps", type=int, default=12, help="of each, after two that warm up")
    compare(parser.parse_args().steps)


if __name__ == "__main__":
    main()
