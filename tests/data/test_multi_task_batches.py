import numpy as np
import pytest

from tfllm.data import (
    BucketPlan,
    MixturePlan,
    MultiTaskBatches,
    RowBatches,
    build_array_store,
    task_shares,
)
from tfllm.data.encoders import Encoded, Ragged
from tfllm.errors import InputError


class Rows:
    """Rows whose ids are their number and length; targets of a kind."""

    def __init__(self, kind, columns=()):
        self.kind, self.columns = kind, columns

    def identity(self):
        return {"encoder": f"{self.kind} {self.columns} of test_multi_task_batches.py"}

    def __call__(self, examples):
        ids = Ragged.of([[e["row"]] * e["length"] for e in examples], np.dtype(np.uint16))
        columns = {"input_ids": ids, **dict.fromkeys(self.columns, ids)}
        rows = np.array([e["row"] for e in examples])
        columns["label"] = {
            "class": rows.astype(np.int32),
            "number": rows.astype(np.float32) / 2,
            "tags": Ragged(ids.values.astype(np.int32), ids.lengths),
        }[self.kind]
        return Encoded(columns, {})


def batches_of(tmp_path, kind, lengths, size, columns=()):
    examples = [{"row": row, "length": length} for row, length in enumerate(lengths, 1)]
    store = build_array_store(examples, Rows(kind, columns), cache_dir=tmp_path, processes=1)
    plan = BucketPlan(store.lengths("input_ids"), size, None)
    return RowBatches(
        store, plan, targets="label", features=("input_ids", *columns), fill_rows=True
    )


@pytest.fixture
def mixed(tmp_path):
    tasks = {
        "topic": batches_of(tmp_path, "class", [1, 2, 3, 3], 2),
        "same": batches_of(tmp_path, "number", [2, 4], 1, columns=("token_type_ids",)),
        "names": batches_of(tmp_path, "tags", [3], 1),
    }
    return MultiTaskBatches(tasks, MixturePlan([2, 1, 1], window=4, seed=3))


def test_each_step_is_of_one_task_and_the_others_weigh_nothing(mixed):
    seen = {"topic": 0, "same": 0, "names": 0}
    for step in range(mixed.steps_per_epoch * 2):
        name = mixed.task_of(step)
        features, targets, weights = mixed.batch(step)
        own = mixed.tasks[name].batch(seen[name])
        seen[name] += 1
        for feature, array in own[0].items():
            np.testing.assert_array_equal(features[feature], array)
        np.testing.assert_array_equal(targets[name], own[1])
        np.testing.assert_array_equal(weights[name], own[2])
        assert set(features) == {"input_ids", "attention_mask", "token_type_ids"}
        assert {array.shape for array in features.values()} == {own[0]["input_ids"].shape}
        for other in set(seen) - {name}:
            assert len(targets[other]) == len(own[2]) and not weights[other].any()
    assert seen == {"topic": 4, "same": 2, "names": 2}


def test_the_dataset_gives_what_batches_hold(mixed):
    for step, (features, targets, weights) in enumerate(mixed.dataset(1, 5), 1):
        wanted = mixed.batch(step)
        np.testing.assert_array_equal(features["input_ids"], wanted[0]["input_ids"])
        for name in mixed.tasks:
            np.testing.assert_array_equal(targets[name], wanted[1][name])
            np.testing.assert_array_equal(weights[name], wanted[2][name])
            assert targets[name].dtype == wanted[1][name].dtype


def test_a_run_that_goes_on_is_held_to_each_tasks_data_and_to_the_mixture(mixed):
    found = mixed.identity()
    assert set(found) == {
        "mixture",
        *(f"{what} of {name}" for name in mixed.tasks for what in ("training data", "encoding")),
    }
    assert found["training data of same"] == mixed.tasks["same"].store.manifest.source
    other = MultiTaskBatches(mixed.tasks, MixturePlan([1, 2, 1], window=4, seed=3))
    changed = {key for key, value in other.identity().items() if found[key] != value}
    assert changed == {"mixture"}
    for step in range(4):
        name = mixed.task_of(step)
        number, own_step = mixed.plan.source(step)
        rows = mixed.tasks[name].plan.rows(own_step).rows
        assert mixed.rows_of(step) == [f"{name} {row}" for row in rows]


def test_shares_follow_sizes_less_the_hotter_it_is():
    sizes = {"large": 8000, "small": 1000}
    assert task_shares(sizes) == pytest.approx({"large": 8 / 9, "small": 1 / 9})
    assert task_shares(sizes, 3.0) == pytest.approx({"large": 2 / 3, "small": 1 / 3})
    assert task_shares(sizes, 1e9)["small"] == pytest.approx(0.5)


def test_what_can_not_be_mixed(mixed):
    with pytest.raises(InputError, match="3 tasks are mixed by 2 weights"):
        MultiTaskBatches(mixed.tasks, MixturePlan([1, 1]))
    with pytest.raises(InputError, match="temperature must be at least 1. Received: 0.5"):
        task_shares({"a": 1}, 0.5)
    with pytest.raises(InputError, match="'b' has no examples"):
        task_shares({"a": 1, "b": 0})
