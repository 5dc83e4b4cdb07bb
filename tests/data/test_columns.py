"""Matrix columns, from an encoder through a store into batches."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tfllm.data import array_manifest
from tfllm.data.array_building import build_array_store
from tfllm.data.array_store import ArrayStore
from tfllm.data.encoders import Encoded, Ragged
from tfllm.data.pipeline_rows import RowBatches
from tfllm.data.row_plan import RowPlan
from tfllm.data.stores import list_stores


@dataclasses.dataclass(frozen=True)
class Powers:
    """Of 3: ids 3 3 3, the matrix rows 3 9 (int32) and 3 (float32, of width 1)."""

    width: int = 2

    def identity(self) -> dict[str, Any]:
        return {"encoder": "powers", "width": self.width}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        numbers = np.array([example["n"] for example in examples], np.int32)
        width = self.width if 5 not in numbers else 3
        columns = {
            "input_ids": Ragged(np.repeat(numbers, numbers).astype(np.uint16), numbers),
            "places": Ragged(np.repeat(numbers, numbers), numbers),
            "powers": numbers[:, None] ** np.arange(1, width + 1, dtype=np.int32),
            "one": numbers[:, None].astype(np.float32),
        }
        return Encoded(columns, {})


@pytest.fixture
def store(tmp_path) -> ArrayStore:
    return build_array_store([{"n": n} for n in (3, 1, 2)], Powers(), cache_dir=tmp_path)


def test_a_matrix_column_by_hand(store):
    assert store.values("powers").tolist() == [[3, 9], [1, 1], [2, 4]]
    assert store.values("one").shape == (3, 1) and isinstance(store.values("one"), np.memmap)
    assert store.row("powers", 2).tolist() == [2, 4]
    column = store.manifest.columns["powers"]
    assert (column.width, column.values, column.ragged) == (2, 6, False)
    assert store.manifest.columns["input_ids"].width is None
    store.verify()


def test_no_rows_have_a_width_too(tmp_path):
    store = build_array_store([], Powers(), cache_dir=tmp_path)
    assert store.values("powers").shape == (0, 2)


def test_the_width_never_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("tfllm.data.array_building._CHUNK_EXAMPLES", 1)
    with pytest.raises(ValueError, match="column 'powers' was of width 2, now 3"):
        build_array_store([{"n": 4}, {"n": 5}], Powers(), cache_dir=tmp_path)


def test_a_store_of_an_earlier_format_is_left_alone_and_made_again(tmp_path, monkeypatch):
    examples = [{"n": 3}]
    monkeypatch.setattr(array_manifest, "FORMAT", 2)
    monkeypatch.setattr("tfllm.data.array_building.FORMAT", 2)
    old = build_array_store(examples, Powers(), cache_dir=tmp_path)
    monkeypatch.undo()
    new = build_array_store(examples, Powers(), cache_dir=tmp_path)
    assert new.folder != old.folder and old.folder.is_dir()
    with pytest.raises(ValueError, match="of another format"):
        ArrayStore(old.folder)
    assert [s.manifest is None for s in list_stores(tmp_path)].count(True) == 1


def test_matrices_as_targets(store):
    data = RowBatches(store, RowPlan(3, 2, None), targets="powers", features=["input_ids"])
    features, targets, weights = data.batch(1)
    assert set(features) == {"input_ids", "attention_mask"}
    assert targets.tolist() == [[2, 4], [2, 4]] and targets.dtype == np.int32
    assert weights.tolist() == [1, 0] and weights.dtype == np.float32
    one = RowBatches(store, RowPlan(3, 2, None), targets="one")
    assert one.batch(0)[1].tolist() == [[3], [1]]
    for made, shape, dtype in ((data, [None, 2], "int32"), (one, [None, 1], "float32")):
        spec = made.dataset().element_spec
        assert spec[1].shape.as_list() == shape and spec[1].dtype == dtype
        assert spec[2].shape.as_list() == [None]
        for step, batch in enumerate(made.dataset()):
            assert batch[1].numpy().tolist() == made.batch(step)[1].tolist()


def test_a_column_may_be_feature_and_weight(store):
    data = RowBatches(
        store,
        RowPlan(3, 3, None),
        targets="places",
        weights="places",
        features=("input_ids", "places"),
    )
    features, targets, weights = data.batch(0)
    assert features["places"].tolist() == targets.tolist() == [[3, 3, 3], [1, 0, 0], [2, 2, 0]]
    assert weights.tolist() == targets.tolist()


def test_rows_without_targets(store):
    data = RowBatches(store, RowPlan(3, 2, None), targets=None)
    features, targets, weights = data.batch(1)
    assert features["input_ids"].tolist() == [[2, 2], [2, 2]] and "places" in features
    assert targets.tolist() == [0, 0] and weights.tolist() == [1, 0]
    assert len(list(data.dataset())) == 2
