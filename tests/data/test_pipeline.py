import dataclasses
from types import SimpleNamespace

import numpy as np

from tfllm.data.pipeline import TokenBlocks
from tfllm.data.store import Manifest


def blocks(tokens: list[int], length: int, batch: int, seed: int | None = None) -> TokenBlocks:
    manifest = dataclasses.replace(EMPTY, tokens=len(tokens))
    store = SimpleNamespace(tokens=np.array(tokens[:-1], np.uint16), manifest=manifest)
    return TokenBlocks(store, sequence_length=length, global_batch_size=batch, seed=seed)


EMPTY = Manifest("", "", start_id=0, documents=2, text_bytes=3, tokens=0)


def test_a_batch_by_hand():
    features, targets, weights = blocks([0, 5, 6, 0, 7, 0], 3, 2).batch(0)
    assert features["input_ids"].tolist() == [[0, 5, 6], [0, 7, 0]]
    assert features["segment_ids"].tolist() == [[1, 1, 1], [1, 1, 2]]
    assert targets.tolist() == [[5, 6, 0], [7, 0, 0]]
    assert weights.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_last_step_with_fewer_rows_keeps_its_shape():
    data = blocks([0, 1, 2, 3, 4, 5, 0], 2, 2)
    assert data.steps_per_epoch == 2 and data.targets == 6
    features, targets, weights = data.batch(1)
    assert features["input_ids"].tolist() == [[4, 5], [0, 0]]
    assert targets[0].tolist() == [5, 0]
    assert weights.tolist() == [[1, 1], [0, 0]]


def test_a_dataset_gives_the_steps_asked_for():
    rng = np.random.default_rng(0)
    data = blocks([0, *rng.integers(1, 50, 4000).tolist(), 0], 16, 4, seed=5)
    dataset = data.dataset(first_step=30, steps=3)
    assert int(dataset.cardinality()) == 3
    for step, (features, targets, weights) in enumerate(dataset, start=30):
        wanted = data.batch(step)
        np.testing.assert_array_equal(features["input_ids"], wanted[0]["input_ids"])
        np.testing.assert_array_equal(features["segment_ids"], wanted[0]["segment_ids"])
        np.testing.assert_array_equal(targets, wanted[1])
        np.testing.assert_array_equal(weights, wanted[2])
    assert len(list(data.dataset())) == data.steps_per_epoch
