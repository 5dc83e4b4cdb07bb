"""What a dual encoder's validation prints, draws and writes; the projector's files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import _read_tensor_tsv_file

from tfllm.errors import InputError
from tfllm.training.projector import write_projector
from tfllm.training.retrieval_report import Points, RetrievalReport


class Embedder:
    """The vector of a row is its first id and one."""

    def __init__(self, sign):
        self.sign = sign

    def forward(self, features):
        ids = tf.cast(features["input_ids"][:, 0], tf.float32)
        return tf.stack([self.sign * ids, tf.ones_like(ids)], axis=1)

    def decode(self, logits, features):
        return {"vector": logits}


class Rows:
    """Rows of one id each, two a batch, the last first."""

    targets = None

    def __init__(self, ids):
        self.ids = np.array(ids, np.int32)
        self.steps_per_epoch = -(-len(ids) // 2)
        self.store = SimpleNamespace(manifest=SimpleNamespace(source="digest"))
        self.plan = SimpleNamespace(rows=lambda step: SimpleNamespace(rows=self._rows(step)))

    def _rows(self, step):
        return np.arange(len(self.ids))[::-1][2 * step : 2 * step + 2]

    def batch(self, step):
        ids = self.ids[self._rows(step)][:, None]
        features = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return features, np.zeros(len(ids), np.int32), np.ones(len(ids), np.float32)

    def signature(self):
        ids = tf.TensorSpec([None, None], tf.int32)
        features = {"input_ids": ids, "attention_mask": ids}
        return features, tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)


QUERIES = [{"id": "q1", "text": "a\tb\nc"}, {"id": "q2", "text": "猫"}]
DOCUMENTS = [{"id": f"d{i}", "text": f"text {i} " * 60} for i in range(3)]


@pytest.fixture
def report(tmp_path):
    model = SimpleNamespace(
        query=Embedder(1.0),
        document=Embedder(-1.0),
        distribute_strategy=tf.distribute.get_strategy(),
    )
    return RetrievalReport(
        model,
        Rows([5, 7]),
        Rows([1, 2, 3]),
        lambda queries, documents: queries @ documents.T,
        lambda found: {"ndcg_10": 0.5, "sum": float(found.sum())},
        tmp_path / "tensorboard",
        lines=lambda found: [{"scores": row} for row in found],
        predictions_path=tmp_path / "validation_predictions.jsonl",
        points=Points(QUERIES, [DOCUMENTS[2], DOCUMENTS[0]], np.array([2, 0])),
    )


def test_each_tower_embeds_its_own_and_the_search_is_measured(report, tmp_path, capsys):
    assert report.source == "digest digest"
    results = report(2, 10)
    assert results == {"ndcg_10": 0.5, "sum": -66.0}  # −(5 + 7)·(1 + 2 + 3) + 6
    assert "Epoch 2, step 10: validation ndcg 10 0.500, sum -66.000" in capsys.readouterr().out
    lines = (tmp_path / "validation_predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["scores"] for line in lines] == [[-4, -9, -14], [-6, -13, -20]]
    events = EventAccumulator(str(tmp_path / "tensorboard" / "validation"), {"tensors": 0})
    events.Reload()
    (point,) = events.Tensors("ndcg_10")
    assert point.step == 10 and tf.make_ndarray(point.tensor_proto) == 0.5


def test_the_projector_reads_what_is_written(report, tmp_path):
    report.evaluate()
    folder = tmp_path / "tensorboard" / "validation"
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (shown,) = config.embeddings
    assert [*shown.tensor_shape] == [4, 2]
    vectors = _read_tensor_tsv_file(str(folder / shown.tensor_path))
    assert vectors.tolist() == [[5, 1], [7, 1], [-3, 1], [-1, 1]]
    header, *rows = (folder / shown.metadata_path).read_text().split("\n")[:-1]
    assert header.split("\t") == ["kind", "id", "text"]
    cells = [row.split("\t") for row in rows]
    assert [row[:2] for row in cells] == [
        ["query", "q1"], ["query", "q2"], ["document", "d2"], ["document", "d0"],
    ]  # fmt: skip
    assert [row[2] for row in cells[:2]] == ["a b c", "猫"] and len(cells[2][2]) == 200


def test_a_folder_that_can_t_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/validation can't be written"):
        write_projector(
            tmp_path / "file" / "validation", np.ones([1, 2]), {"kind": ["a"], "id": ["b"]}
        )
