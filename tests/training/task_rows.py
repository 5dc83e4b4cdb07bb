"""A small task, whole: rows on disk, their batches, and a model of two layers with a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig

from tfllm.data import BucketPlan, RowBatches, build_array_store
from tfllm.data.encoders import Encoded, Ragged
from tfllm.models.backbones import create_backbone
from tfllm.models.task_model import TaskModel

LENGTHS = [3, 1, 7, 2, 9, 4, 4, 12, 1, 5, 6]
CLASSES = 3
SITE = 400_001


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples are lengths; everything else follows from the row's number."""

    def identity(self) -> dict[str, Any]:
        return {"encoder": "rows of task_rows.py"}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        lengths = [example["length"] for example in examples]
        ids = [(example["row"] * 7 + np.arange(example["length"])) % 29 for example in examples]
        ragged = Ragged.of([row.tolist() for row in ids], np.dtype(np.uint16))
        columns = {
            "input_ids": ragged,
            "tags": Ragged(ragged.values.astype(np.int32) % CLASSES, ragged.lengths),
            "label": np.array([example["row"] % CLASSES for example in examples], np.int32),
            "number": np.array(lengths, np.float32),
            "some": np.array([[n % 2, n % 3 == 0] for n in lengths], np.float32).reshape(-1, 2),
        }
        return Encoded(columns, {})


class Classifier(TaskModel):
    """The class of a row by its first token, and a number for each token."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(create_backbone(CONFIG), **arguments)
        self.head = keras.layers.Dense(CLASSES, name="head")
        self.head.build([None, CONFIG.hidden_size])
        self.built = True
        self.forwards_traced = 0

    def logits_of(self, hidden, features, *, training, dropout_seed):
        self.forwards_traced += 1
        return self.head(hidden)

    def loss_of(self, logits, features, targets, weights):
        if targets.shape.rank == 2 and targets.shape[1] is not None:  # a matrix
            losses = tf.math.squared_difference(logits[:, 0, : targets.shape[1]], targets)
        else:
            logits = logits if targets.shape.rank == 2 else logits[:, 0]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        return tf.reduce_sum(losses * weights), tf.reduce_sum(weights)

    def decode(self, logits, features):
        return {
            "scores": tf.nn.softmax(logits[:, 0]),
            "best": tf.argmax(logits[:, 0], axis=-1, output_type=tf.int32),
            "tags": tf.argmax(logits, axis=-1, output_type=tf.int32),
        }


CONFIG = BertConfig(
    vocab_size=30,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
    initializer_range=0.5,
)


def batches_of(
    folder: Path,
    *,
    size: int = 4,
    targets: str | None = "label",
    lengths: Sequence[int] = LENGTHS,
    seed: int | None = 5,
) -> RowBatches:
    """Rows of like length together, in a random order."""
    examples = [{"row": row, "length": length} for row, length in enumerate(lengths)]
    store = build_array_store(examples, Rows(), cache_dir=folder)
    plan = BucketPlan(store.lengths("input_ids"), size, seed)
    return RowBatches(store, plan, targets=targets, features=["input_ids"])


def new_model(seed: int = 3) -> Classifier:
    keras.utils.set_random_seed(seed)
    return Classifier()
