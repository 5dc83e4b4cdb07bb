"""What a validation of several tasks prints, draws and writes."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf
from task_rows import batches_of, new_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfllm.training.multi_task_report import MainMetric, MultiTaskReport
from tfllm.training.task_report import TaskReport


@pytest.fixture
def reports(tmp_path):
    model, entered = new_model(), []

    def report(name, numbers):
        return TaskReport(
            model,
            batches_of(tmp_path / "stores"),
            lambda outputs: numbers,
            tmp_path / "unused",
            figures=lambda outputs: {"picture": np.full([1, 2, 2, 3], 7, np.uint8)},
            lines=lambda outputs: [{"task": name}],
            predictions_path=tmp_path / "validation_predictions" / f"{name}.jsonl",
        )

    @contextmanager
    def measured_within():
        entered.append(True)
        yield

    several = MultiTaskReport(
        model,
        {
            "topic": report("topic", {"accuracy": 0.5, "f1/a": 0.1}),
            "answers": report("answers", {"f1": 80.0}),
        },
        {"topic": MainMetric("accuracy"), "answers": MainMetric("f1", 100.0)},
        tmp_path / "tensorboard",
        measured_within=measured_within,
    )
    return several, entered


def test_each_task_and_their_mean(reports, tmp_path, capsys):
    report, entered = reports
    results = report(2, 30)
    loss = results["topic/loss"]
    assert results == {
        "loss": pytest.approx(loss),
        "mean": pytest.approx((0.5 + 0.8) / 2),
        "topic/loss": loss,
        "topic/accuracy": 0.5,
        "topic/f1/a": 0.1,
        "answers/loss": loss,
        "answers/f1": 80.0,
    }
    assert entered == [True] and report.newest == results
    assert json.loads(report.source).keys() == {"topic", "answers"}
    assert capsys.readouterr().out == (
        f"Epoch 2, step 30: validation loss {loss:.3f}, mean 0.650, topic accuracy 0.500, "
        "answers f1 80.000\n"
    )
    events = EventAccumulator(str(tmp_path / "tensorboard" / "validation"))
    events.Reload()
    pictures = {"topic/picture", "answers/picture"}
    assert set(events.Tags()["tensors"]) == set(results) | pictures
    assert len([*(tmp_path / "tensorboard" / "validation").iterdir()]) == 1
    (drawn,) = events.Tensors("answers/picture")
    assert drawn.step == 30 and tf.make_ndarray(drawn.tensor_proto)[:2].tolist() == [b"2", b"2"]
    for name in ("topic", "answers"):
        path = tmp_path / "validation_predictions" / f"{name}.jsonl"
        assert json.loads(path.read_text()) == {"task": name}


def test_measured_without_a_word(reports, capsys):
    report, _ = reports
    assert report.evaluate()["mean"] == pytest.approx(0.65)
    assert capsys.readouterr().out == ""
