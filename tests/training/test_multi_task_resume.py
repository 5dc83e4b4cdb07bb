"""Training of several tasks, stopped in the middle of an epoch and continued."""

import os
import signal

import numpy as np
import pytest
import tf_keras as keras
from transformers import BertConfig

from tfllm import data, metrics, optimization, training
from tfllm.data import readers
from tfllm.errors import InputError, Interrupted
from tfllm.models import MultiTaskModel, TextClassifier
from tfllm.models.backbones import create_backbone
from tfllm.text import train_wordpiece

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.2,
}
WORDS = "cat dog sea sun mat".split()


class StoppingBatches(data.MultiTaskBatches):
    """Has the process told to end while it asks for a step's batch."""

    stop_at = None

    def batch(self, step, worker=0, workers=1):
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, worker, workers)


@pytest.fixture
def train(tmp_path):
    tokenizer = train_wordpiece([" ".join(WORDS)] * 3, 60)
    kinds = {"topic": (20, ("a", "b"), "single_label"), "grade": (9, (), "regression")}
    for name, (count, _, kind) in kinds.items():
        label = (lambda i: i / 4) if kind == "regression" else (lambda i: "ab"[i % 2])
        rows = [f"{WORDS[i % 5]} {WORDS[i % 3]} {i}\t{label(i)}" for i in range(count)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")

    def rows(name, seed=None):
        _, labels, kind = kinds[name]
        field = readers.Field("label", "number" if kind == "regression" else "label")
        examples = readers.Tsv(tmp_path / f"{name}.tsv", {"text": "text", "label": field})
        encoder = data.TextEncoder(
            data.FastTokenizer.of(tokenizer), 8, label="label", labels=labels
        )
        return data.task_batches(examples, encoder, 2, seed)

    def run(folder, stop_at=None, weights=(10, 5)):
        training.set_seed(3)
        backbone = create_backbone(BertConfig(vocab_size=tokenizer.vocabulary_size, **SIZES))
        tasks = {
            name: TextClassifier(backbone, labels=labels, kind=kind)
            for name, (_, labels, kind) in kinds.items()
        }
        model = MultiTaskModel(tasks, seed=3)
        optimization.compile_model(model, 0.01, total_steps=30, warmup_steps=3)
        plan = data.MixturePlan(weights, window=15, seed=1)
        batches = StoppingBatches({name: rows(name, 7) for name in kinds}, plan)
        batches.stop_at = stop_at

        measures = {
            "topic": lambda o: metrics.classification(o["targets"], o["scores"], ("a", "b")),
            "grade": lambda o: {"furthest": float(abs(o["targets"] - o["score"]).max())},
        }
        reports = {
            name: training.TaskReport(task, rows(name), measures[name], tmp_path / folder)
            for name, task in tasks.items()
        }
        main = {
            n: training.MainMetric(m) for n, m in (("topic", "accuracy"), ("grade", "furthest"))
        }
        report = training.MultiTaskReport(model, reports, main, tmp_path / folder / "tensorboard")
        trained = training.train_task(
            model, batches, report, run_dir=tmp_path / folder, total_steps=30
        )
        return [weight.numpy() for weight in model.weights], trained

    yield run
    keras.backend.clear_session()


def test_stopped_and_continued_equals_uninterrupted(train, capsys):
    wanted, whole = train("whole")
    with pytest.raises(Interrupted):
        train("stopped", stop_at=9)
    with pytest.raises(InputError, match="mixture"):
        train("stopped", weights=(9, 6))
    capsys.readouterr()
    found, continued = train("stopped")
    assert "Going on from step" in capsys.readouterr().out
    assert continued.best == whole.best
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one, other)
