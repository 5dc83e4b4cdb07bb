"""What a task's validation prints, draws and writes."""

import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf
from task_rows import batches_of, new_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfllm import metrics
from tfllm.errors import InputError
from tfllm.training.figures import confusion_matrix
from tfllm.training.prediction_lines import (
    class_lines,
    multi_label_lines,
    number_lines,
    tag_lines,
)
from tfllm.training.row_predictor import predict_rows
from tfllm.training.task_report import TaskReport
from tfllm.training.write_predictions import write_predictions

LABELS = ("bad", "差", "good")


def events_of(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def measure(outputs):
    return metrics.classification(outputs["targets"], outputs["scores"], LABELS)


@pytest.fixture
def report(tmp_path):
    model = new_model()
    texts = [{"text": f"text {row}", "label": LABELS[row % 3]} for row in range(11)]

    @contextmanager
    def measured_within():
        kept = model.head.bias.numpy()
        model.head.bias.assign([0.0, 0.0, 9.0])  # so that everything is good
        yield
        model.head.bias.assign(kept)

    return TaskReport(
        model,
        batches_of(tmp_path / "stores"),
        measure,
        tmp_path / "tensorboard",
        figures=lambda outputs: {
            "confusion": confusion_matrix(outputs["targets"], outputs["best"], LABELS)
        },
        lines=lambda outputs: class_lines(texts, outputs["scores"], LABELS),
        predictions_path=tmp_path / "predictions.jsonl",
        measured_within=measured_within,
    )


def test_a_report_as_a_whole(report, tmp_path, capsys):
    bias = report._predictor._model.head.bias
    before = bias.numpy()
    results = report(2, 30)
    np.testing.assert_array_equal(bias.numpy(), before)
    # Rows 2, 5 and 8 of eleven are good.
    assert results["accuracy"] == pytest.approx(3 / 11) and results["f1/good"] == 6 / 14
    assert list(results)[0] == "loss" and results["loss"] > 3.0

    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        f"Epoch 2, step 30: validation loss {results['loss']:.3f}, accuracy 0.273, "
        "macro f1 0.143, micro f1 0.273, matthews 0.000"
    )

    events = events_of(tmp_path / "tensorboard" / "validation")
    tags = set(events.Tags()["tensors"])
    assert tags == {*results, "confusion"}
    for name, value in results.items():
        (event,) = events.Tensors(name)
        assert event.step == 30
        assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(value, rel=1e-6)
    width, height, picture = tf.make_ndarray(events.Tensors("confusion")[0].tensor_proto)
    shown = tf.io.decode_png(picture).numpy()
    assert shown.shape == (int(height), int(width), 3)

    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 11 and "差" in lines[1]
    first = json.loads(lines[0])
    assert list(first) == ["text", "label", "predicted", "scores"]
    assert (first["text"], first["label"], first["predicted"]) == ("text 0", "bad", "good")
    assert list(first["scores"]) == list(LABELS)
    assert sum(first["scores"].values()) == pytest.approx(1.0, abs=1e-5)


def test_the_weights_as_they_are(report, tmp_path, capsys):
    again = report.evaluate()
    assert not (tmp_path / "tensorboard").exists()
    report(1, 10)
    (tmp_path / "predictions.jsonl").unlink()
    capsys.readouterr()
    assert again == report.evaluate() and again["accuracy"] == pytest.approx(3 / 11)
    assert (tmp_path / "predictions.jsonl").is_file() and not capsys.readouterr().out
    assert len(events_of(tmp_path / "tensorboard" / "validation").Tensors("loss")) == 1


def test_a_report_of_numbers_alone(tmp_path):
    model, batches = new_model(), batches_of(tmp_path / "stores")
    report = TaskReport(model, batches, lambda outputs: {}, tmp_path / "tensorboard")
    assert report.source == batches.store.manifest.source
    assert report(1, 1) == {"loss": predict_rows(model, batches).loss}


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a" / "predictions.jsonl"
    write_predictions(path, [{"n": np.float32(0.1), "m": math.nan, "b": np.bool_(True)}])
    assert path.read_text() == '{"n": 0.1, "m": null, "b": true}\n'

    def broken():
        yield {"n": np.arange(2)}
        raise KeyError("text")

    with pytest.raises(KeyError):
        write_predictions(path, broken())
    assert path.read_text().startswith('{"n": 0.1') and len(list(path.parent.iterdir())) == 1
    write_predictions(path, [{"n": np.arange(2), "s": b"\xc3\xa9"}])
    assert path.read_text() == '{"n": [0, 1], "s": "é"}\n'


def test_a_file_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"predictions.jsonl can't be written: "):
        write_predictions(tmp_path / "file" / "predictions.jsonl", [])


def test_lines_by_hand():
    texts = [{"text": "a"}, {"text": "b"}]
    scores = np.array([[0.9, 0.2], [0.3, 0.4]], np.float32)
    lines = list(multi_label_lines(texts, scores, ["x", "y"], [0.3, 0.5]))
    assert [line["predicted"] for line in lines] == [["x"], ["x"]]
    assert lines[1]["scores"] == pytest.approx({"x": 0.3, "y": 0.4})
    assert list(number_lines(texts, np.array([1.5, 2.0])))[1] == {"text": "b", "predicted": 2.0}
    sentences = [{"tokens": ["Rome", "is"], "tags": ["B-LOC", "O"]}]
    (line,) = tag_lines(sentences, [["O", "O"]], [[0.6, 0.9]])
    assert line == {**sentences[0], "predicted": ["O", "O"], "scores": [0.6, 0.9]}
