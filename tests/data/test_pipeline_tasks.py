import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.array_building import build_array_store
from tfllm.data.array_store import ArrayStore
from tfllm.data.bucket_plan import BucketPlan
from tfllm.data.budget_plan import BudgetPlan
from tfllm.data.encoders import Encoded, Ragged
from tfllm.data.mixture_plan import MixturePlan
from tfllm.data.pipeline_mixed import MixedBatches
from tfllm.data.pipeline_packed import PackedDocuments
from tfllm.data.pipeline_rows import RowBatches
from tfllm.data.row_plan import RowPlan
from tfllm.data.store import Manifest
from tfllm.errors import InputError


def documents(*parts: list[int]) -> SimpleNamespace:
    """A token store of documents, each with its start token 0."""
    tokens = np.array([token for part in parts for token in (0, *part)], np.uint16)
    offsets = np.cumsum([0] + [1 + len(part) for part in parts])
    manifest = Manifest("", "", 0, len(parts), 5, len(tokens) + 1)
    return SimpleNamespace(tokens=tokens, offsets=offsets, manifest=manifest)


def packed(store, length, batch, seed=None, end_id=None) -> PackedDocuments:
    return PackedDocuments(
        store, sequence_length=length, global_batch_size=batch, seed=seed, end_id=end_id
    )


def test_packed_rows_by_hand():
    data = packed(documents([5, 6], [7]), 6, 1)
    features, targets, weights = data.batch(0)
    assert features["input_ids"].tolist() == [[0, 5, 6, 0, 7, 0]]
    assert features["segment_ids"].tolist() == [[1, 1, 1, 2, 2, 0]]
    assert features["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]]
    assert targets.tolist() == [[5, 6, 0, 7, 0, 0]]
    assert weights.tolist() == [[1, 1, 1, 1, 1, 0]]
    assert data.targets == 5 and "83.3% full" in str(data)


def test_a_document_that_is_cut_goes_on_where_it_was():
    data = packed(documents([5, 6, 7, 8], [9]), 3, 2, end_id=4)
    features, targets, weights = data.batch(0)
    assert features["input_ids"].tolist() == [[0, 5, 6], [7, 8, 4]]
    assert targets.tolist() == [[5, 6, 7], [8, 4, 4]]
    assert weights.tolist() == [[1, 1, 1], [1, 1, 0]]
    features, targets, weights = data.batch(1)  # the epoch's last, which lacks a row
    assert features["segment_ids"].tolist() == [[1, 1, 0], [0, 0, 0]]
    assert targets.tolist() == [[9, 4, 4], [4, 4, 4]] and weights.sum() == 2


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.integers(1, 99), max_size=30), min_size=1, max_size=30),
    st.integers(1, 20),
    st.integers(1, 4),
    st.none() | st.integers(0, 5),
)
def test_every_target_of_every_document_once(parts, length, batch, seed):
    data = packed(documents(*parts), length, batch, seed, end_id=100)
    seen = []
    for step in range(data.steps_per_epoch):
        features, targets, weights = data.batch(step)
        assert weights.shape == (batch, length) and (weights > 0).sum() == weights.sum()
        np.testing.assert_array_equal(features["segment_ids"] > 0, weights > 0)
        for row in range(batch):
            for segment in range(1, features["segment_ids"][row].max() + 1):
                of = features["segment_ids"][row] == segment
                ids, wanted = features["input_ids"][row][of], targets[row][of]
                assert features["position_ids"][row][of].tolist() == list(range(len(ids)))
                assert ids[1:].tolist() == wanted[:-1].tolist()
                seen += zip(ids.tolist(), wanted.tolist(), strict=True)
    wanted = [pair for part in parts for pair in zip([0, *part], [*part, 100], strict=True)]
    assert sorted(seen) == sorted(wanted)


@dataclasses.dataclass(frozen=True)
class Given:
    """Examples that hold their ids, tags and label."""

    def identity(self) -> dict[str, Any]:
        return {"encoder": "given"}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        ids = Ragged.of([example["ids"] for example in examples], np.dtype(np.uint16))
        tags = Ragged(ids.values.astype(np.int32) % 3, ids.lengths)
        weights = Ragged((ids.values % 2).astype(np.float32), ids.lengths)
        label = np.array([example["label"] for example in examples], np.int32)
        columns = {"input_ids": ids, "tags": tags, "tag_weights": weights, "label": label}
        return Encoded(columns, {})


def store_of(ids: list[list[int]], folder) -> ArrayStore:
    examples = [{"ids": row, "label": len(row)} for row in ids]
    return build_array_store(examples, Given(), cache_dir=folder)


@pytest.fixture
def store(tmp_path) -> ArrayStore:
    return store_of([[5, 6], [7], [8, 9, 10], [4, 4, 4, 4]], tmp_path)


def test_rows_by_hand(store):
    data = RowBatches(store, RowPlan(4, 3, None), targets="label", padding={"input_ids": 1})
    features, targets, weights = data.batch(0)
    assert features["input_ids"].tolist() == [[5, 6, 1], [7, 1, 1], [8, 9, 10]]
    assert features["tags"].tolist() == [[2, 0, 0], [1, 0, 0], [2, 0, 1]]
    assert features["attention_mask"].tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert targets.tolist() == [2, 1, 3] and weights.tolist() == [1, 1, 1]
    features, targets, weights = data.batch(1)
    assert features["input_ids"].tolist() == [[4, 4, 4, 4]] * 3
    assert targets.tolist() == [4, 4, 4] and weights.tolist() == [1, 0, 0]


def test_a_last_batch_may_stay_small(store):
    data = RowBatches(store, RowPlan(4, 3, None), targets="label", fill_rows=False)
    assert data.batch(1)[0]["input_ids"].shape == (1, 4)
    assert data.batch(1)[2].tolist() == [1]


def test_targets_for_each_token(store):
    data = RowBatches(store, RowPlan(4, 4, None), targets="tags", weights="tag_weights")
    features, targets, weights = data.batch(0)
    assert "tags" not in features and "tag_weights" not in features
    assert targets.tolist()[:2] == [[2, 0, 0, 0], [1, 0, 0, 0]]
    assert weights.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    plain = RowBatches(store, RowPlan(4, 4, None), targets="tags").batch(0)[2]
    assert plain.sum(axis=1).tolist() == [2, 1, 3, 4]


@pytest.mark.parametrize("fill_rows", [True, False])
def test_workers_make_up_the_global_batch(tmp_path, fill_rows):
    rng = np.random.default_rng(0)
    store = store_of([[1] * int(n) for n in rng.integers(1, 20, 41)], tmp_path)
    lengths = store.lengths("input_ids")
    for plan in (
        BucketPlan(lengths, 8, 3),
        BudgetPlan(lengths, [10, 20], token_budget=160, rows_multiple=4, seed=3),
    ):
        data = RowBatches(store, plan, targets="label", fill_rows=fill_rows)
        labels = []
        for step in range(data.steps_per_epoch):
            parts = [data.batch(step, worker, 4) for worker in range(4)]
            whole = data.batch(step)
            real = np.concatenate([targets[weights > 0] for _, targets, weights in parts])
            np.testing.assert_array_equal(real, whole[1][whole[2] > 0])
            assert {p[0]["input_ids"].shape[1] for p in parts} == {whole[0]["input_ids"].shape[1]}
            if fill_rows:
                assert {len(part[1]) for part in parts} == {len(whole[1]) // 4}
            labels += real.tolist()
        assert sorted(labels) == sorted(lengths.tolist())


def same(batch, wanted):
    for name, values in wanted[0].items():
        np.testing.assert_array_equal(batch[0][name], values)
    assert set(batch[0]) == set(wanted[0])
    np.testing.assert_array_equal(batch[1], wanted[1])
    np.testing.assert_array_equal(batch[2], wanted[2])


def test_datasets_give_the_steps_asked_for(store):
    rng = np.random.default_rng(0)
    parts = [rng.integers(1, 50, n).tolist() for n in rng.integers(0, 60, 300)]
    rows = RowBatches(store, BucketPlan(store.lengths("input_ids"), 2, 1), targets="label")
    tags = RowBatches(store, RowPlan(4, 2, 1), targets="tags")
    mixed = MixedBatches([rows, rows], MixturePlan([1, 2], window=9))
    for data in (packed(documents(*parts), 32, 4, seed=1), rows, tags, mixed):
        dataset = data.dataset(50, 3)
        assert int(dataset.cardinality()) == 3
        batches = list(dataset)
        assert len(batches) == 3
        for step, batch in enumerate(batches, 50):
            same(batch, data.batch(step))
        for batch in data.dataset(7, 1, worker=1, workers=2):
            same(batch, data.batch(7, 1, 2))
    assert packed(documents(*parts), 32, 4).dataset().element_spec[0]["input_ids"].shape == (4, 32)
    assert rows.dataset().element_spec[0]["input_ids"].shape.as_list() == [None, None]
    assert rows.dataset().element_spec[1].dtype == "int32"
    assert len(list(rows.dataset())) == rows.steps_per_epoch == 2


def test_mixtures(store):
    rows = RowBatches(store, RowPlan(4, 2, 1), targets="label")
    tags = RowBatches(store, RowPlan(4, 2, 2), targets="tags")
    mixed = MixedBatches([rows, tags], MixturePlan([3, 1], window=4))
    for step in range(8):
        features, targets, _ = mixed.batch(step)
        source, own = mixed.plan.source(step)
        assert features["source"].tolist() == [source] * 2
        np.testing.assert_array_equal(targets, (rows, tags)[source].batch(own)[1])
    with pytest.raises(InputError, match="same features, targets and ranks"):
        mixed.dataset(0, 1)
    with pytest.raises(InputError, match="1 sources are mixed by 2 weights"):
        MixedBatches([rows], MixturePlan([1, 1]))


def test_a_mixture_has_a_window_for_an_epoch(store):
    rows = RowBatches(store, RowPlan(4, 2, 1), targets="label")
    mixed = MixedBatches([rows, rows], MixturePlan([3, 1], window=4))
    assert mixed.steps_per_epoch == 4 == len(list(mixed.dataset()))
