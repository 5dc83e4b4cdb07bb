"""Checkpoints hold the step that they were asked for, and are whole or not there."""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm import optimization
from tfllm.errors import InputError
from tfllm.training.background import Background
from tfllm.training.checkpoints import Checkpoints
from tfllm.training.snapshot import Snapshot


def create_model(
    width: int = 4, *, optimizer: str = "adamw", jit_compile: bool = False
) -> keras.Model:
    """Words and a matrix: their gradients come sparse and dense."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Embedding(11, width), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input([5], dtype="int32"), *layers])
    made = {
        "adamw": lambda: optimization.adamw(0.1, model.trainable_variables, average_momentum=0.9),
        "not built": lambda: keras.optimizers.Adam(0.1),
        "legacy": lambda: keras.optimizers.legacy.Adam(0.1),
        "scaled": lambda: keras.mixed_precision.LossScaleOptimizer(
            keras.optimizers.Adam(0.1), dynamic_growth_steps=2
        ),
    }[optimizer]()
    model.compile(made, "mse", jit_compile=jit_compile)
    return model


def train(model: keras.Model, seed: int, steps: int = 1) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        words = rng.integers(0, 11, (6, 5)).astype(np.int32)
        model.train_on_batch(words, rng.normal(size=(6, 5, 3)).astype(np.float32))


def values_of(model: keras.Model) -> list[np.ndarray]:
    optimizer = model.optimizer
    values = [v.numpy() for v in (*model.weights, *optimizer.variables())]
    return [*values, np.array(getattr(optimizer, "loss_scale", 0.0))]


def assert_same(values: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(values) == len(wanted)
    for value, other in zip(values, wanted, strict=True):
        np.testing.assert_array_equal(value, other)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------ what is saved


@pytest.mark.parametrize("optimizer", ["adamw", "not built", "legacy", "scaled"])
def test_the_values_are_those_of_the_moment(tmp_path, optimizer):
    """Every slot, the average and the loss scale, though training goes on before the write."""
    model = create_model(optimizer=optimizer)
    train(model, 0, steps=3)
    wanted = values_of(model)
    snapshot = Snapshot(model)
    train(model, 1, steps=3)
    after = values_of(model)
    assert any((a != b).any() for a, b in zip(after, wanted, strict=True))
    snapshot.write(tmp_path / "weights")

    again = create_model(optimizer=optimizer)
    Checkpoints(tmp_path, again)  # builds the optimizer
    Snapshot.restore(again, tmp_path / "weights")
    assert_same(values_of(again), wanted)
    train(again, 1, steps=3)
    assert_same(values_of(again), after)


def test_the_values_are_those_of_the_moment_under_xla(tmp_path):
    model = create_model(jit_compile=True)
    train(model, 0)
    wanted = values_of(model)
    snapshot = Snapshot(model)
    train(model, 1, steps=2)
    snapshot.write(tmp_path / "weights")
    Snapshot.restore(model, tmp_path / "weights")
    assert_same(values_of(model), wanted)


UPDATES = {
    "assign": lambda v: v.assign(tf.zeros_like(v)),
    "assign_add": lambda v: v.assign_add(tf.ones_like(v)),
    "assign_sub": lambda v: v.assign_sub(tf.ones_like(v)),
    "scatter_add": lambda v: v.scatter_add(tf.IndexedSlices(tf.ones([1, 4]), [1])),
    "scatter_update": lambda v: v.scatter_update(tf.IndexedSlices(tf.ones([1, 4]), [2])),
    "slice": lambda v: v[3].assign(tf.ones([4])),
    "in_place": lambda v: tf.raw_ops.ResourceApplyGradientDescent(
        var=v.handle, alpha=0.5, delta=tf.ones_like(v)
    ),
}


@settings(max_examples=30)
@given(st.lists(st.sampled_from(sorted(UPDATES)), min_size=1, max_size=6), st.integers(0, 5))
def test_no_kind_of_update_reaches_a_snapshot(updates, at):
    model = keras.Sequential([keras.Input([5]), keras.layers.Embedding(6, 4)])
    model.compile(keras.optimizers.SGD())
    variable = model.weights[0]
    for name in updates[:at]:
        UPDATES[name](variable)
    wanted = np.array(variable.numpy())
    snapshot = Snapshot(model)
    for name in updates:
        UPDATES[name](variable)
    (value,) = (v for name, v in snapshot._values.items() if name.startswith("model"))
    np.testing.assert_array_equal(value, wanted)


def test_training_goes_on_while_files_are_written(tmp_path, monkeypatch):
    model = create_model()
    train(model, 0)
    wanted = values_of(model)
    go_on, plain = threading.Event(), Snapshot.write

    def write_late(self: Snapshot, prefix: Path) -> None:
        assert go_on.wait(60)
        plain(self, prefix)

    monkeypatch.setattr(Snapshot, "write", write_late)
    checkpoints = Checkpoints(tmp_path, model)
    path = checkpoints.start_saving({"a": 1})
    train(model, 1, steps=3)
    assert not path.exists()
    go_on.set()
    checkpoints.wait()
    assert names_in(tmp_path) == [path.name] == ["step-000000001"]
    assert checkpoints.restore_latest() == {"a": 1, "step": 1, "identity": {}}
    assert_same(values_of(model), wanted)


# ------------------------------------------------------------------ what is kept


def test_the_best_shares_its_files_with_the_step(tmp_path):
    model = create_model()
    with Checkpoints(tmp_path, model) as checkpoints:
        for step in range(1, 6):
            train(model, step)
            checkpoints.start_saving({"at": step}, best=step in (2, 4))
    assert names_in(tmp_path) == ["best-000000004", "step-000000004", "step-000000005"]
    names = ["state.json", "weights.data-00000-of-00001", "weights.index"]
    assert names_in(tmp_path / "best-000000004") == names
    for name in names:
        best, step = (tmp_path / f"{kind}-000000004" / name for kind in ("best", "step"))
        assert best.read_bytes() == step.read_bytes()
        assert best.samefile(step) == (name != "state.json")
    assert checkpoints.restore_best()["at"] == checkpoints.step() == 4


def test_a_disk_without_links_holds_the_best_twice(tmp_path, monkeypatch):
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    model = create_model()
    with Checkpoints(tmp_path, model) as checkpoints:
        checkpoints.start_saving({}, best=True)
    best, step = (tmp_path / f"{kind}-000000000" for kind in ("best", "step"))
    for path in best.iterdir():
        assert path.read_bytes() == (step / path.name).read_bytes()


# ------------------------------------------------------------------ what goes wrong


def test_an_error_of_the_background_is_raised_once_and_skips_the_next_job():
    done, background = [], Background()

    def fail() -> None:
        raise OSError("no")

    background.start(fail)
    with pytest.raises(OSError, match="no"):
        background.start(lambda: done.append(1))
    background.wait()
    assert done == []
    for number in range(20):
        background.start(lambda number=number: done.append(number))
    background.wait()
    assert done == list(range(20))


def test_what_cant_be_written_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", create_model())
    checkpoints.start_saving({})
    with pytest.raises(NotADirectoryError):
        checkpoints.start_saving({})
    checkpoints.wait()
    with pytest.raises(NotADirectoryError), checkpoints:
        checkpoints.start_saving({})
    # What ends the `with` is not hidden by it.
    with pytest.raises(ZeroDivisionError), checkpoints:
        checkpoints.start_saving({})
        raise ZeroDivisionError


def test_a_full_disk_is_told_and_leaves_what_was_whole(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine doesn't let us mount a tiny disk")
    try:
        model = create_model(1000)  # with its slots and its average about 170 KB
        checkpoints = Checkpoints(tmp_path, model)
        checkpoints.save({})
        train(model, 0)
        checkpoints.start_saving({})
        # As the command line looks for it, to say it in one line.
        with pytest.raises((OSError, tf.errors.OpError), match="No space left on device"):
            checkpoints.wait()
        assert names_in(tmp_path) == ["step-000000000"]
        assert checkpoints.restore_latest()["step"] == 0
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_another_model_is_refused_and_its_checkpoint_stays(tmp_path):
    Checkpoints(tmp_path, create_model()).save({})
    before = names_in(tmp_path)
    for model, line in [
        (create_model(6), r"its model/.*float32\[11, 4\], and now it is float32\[11, 6\]"),
        (create_model(optimizer="not built"), "its optimizer/.*, and now it is not there"),
    ]:
        with pytest.raises(InputError, match=line):
            Checkpoints(tmp_path, model).restore_latest()
    assert names_in(tmp_path) == before


def test_a_model_without_weights_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="(?i)build"):
        Checkpoints(tmp_path, model)


def test_one_wrong_bit_is_damage(tmp_path):
    model = create_model()
    checkpoints = Checkpoints(tmp_path, model)
    checkpoints.save({})
    train(model, 0)
    data = checkpoints.save({}) / "weights.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 4
    data.write_bytes(content)
    assert checkpoints.restore_latest()["step"] == checkpoints.step() == 0
    assert names_in(tmp_path) == [".damaged-step-000000001", "step-000000000"]


def test_what_a_killed_process_had_begun_is_finished_or_undone(tmp_path):
    model = create_model()
    checkpoints = Checkpoints(tmp_path, model, keep=1)
    checkpoints.start_saving({"n": 1}, best=True)
    checkpoints.wait()
    step, best = tmp_path / "step-000000000", tmp_path / "best-000000000"
    # Killed with the only checkpoint out of the way of a new one that is not there yet …
    step.rename(tmp_path / f".old-{step.name}")
    (tmp_path / f".{step.name}-1234").mkdir()
    assert checkpoints.restore_latest()["n"] == 1
    # … with the new one there, the old one not gone; and with two that are best.
    shutil.copytree(step, tmp_path / f".old-{step.name}")
    (step / "state.json").write_text(json.dumps({"n": 2}))
    shutil.copytree(best, tmp_path / "best-000000003")
    assert checkpoints.restore_latest() == {"n": 2}
    assert names_in(tmp_path) == ["best-000000003", "step-000000000"]
