"""A stopped and resumed run ends with the same weights, bit for bit."""

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm import optimization, training
from tfllm.errors import InputError, Interrupted
from tfllm.models import CausalLM
from tfllm.training.best_metric import BestMetric
from tfllm.training.checkpoints import Checkpoints
from tfllm.training.optimizer_identity import optimizer_identity
from tfllm.training.snapshot import Snapshot

TOTAL, PER_EPOCH = 11, 4


def batches(first_step: int, steps: int) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 13, (TOTAL, 4, 7)).astype(np.int32)
    part = ids[first_step : first_step + steps]
    features = {"input_ids": part[..., :-1]}
    return tf.data.Dataset.from_tensor_slices((features, part[..., 1:]))


def create_model() -> CausalLM:
    keras.utils.set_random_seed(1)
    config = GPT2Config(vocab_size=13, n_positions=6, n_embd=8, n_layer=2, n_head=2)
    model = CausalLM.from_config(config, seed=5)
    schedule = optimization.warmup_cosine(0.01, total_steps=TOTAL)
    model.compile(optimization.adamw(schedule, model.trainable_variables), accumulate_steps=2)
    return model


def run(folder: Path, validate, *, patience: int | None = None, **how):
    model = create_model()
    trained = training.train(
        model,
        batches,
        validate,
        run_dir=folder,
        total_steps=TOTAL,
        steps_per_epoch=PER_EPOCH,
        tokens_per_step=24,
        patience=patience,
        **how,
    )
    return model, trained


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def falling(epoch: int, step: int) -> dict[str, float]:
    return {"loss": 10.0 - epoch}


class KillAt(keras.callbacks.Callback):
    def __init__(self, step: int, number: int) -> None:
        super().__init__()
        self.step, self.number = step, number

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run, and what it ended with: weights and optimizer."""
    folder = tmp_path_factory.mktemp("whole")
    model, trained = run(folder, falling)
    return folder, values_of(model), trained


def values_of(model: CausalLM) -> list[np.ndarray]:
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]


def assert_same(model: CausalLM, wanted: list[np.ndarray]) -> None:
    for a, b in zip(values_of(model), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_whole_run(whole):
    _, _, trained = whole
    assert trained.steps == TOTAL and trained.best["loss"] == 7.0
    assert trained.tokens_per_second > 0


# Within an epoch, and at its end.
@pytest.mark.parametrize(("step", "number"), [(6, signal.SIGINT), (8, signal.SIGTERM)])
def test_stopped_and_resumed_equals_uninterrupted(
    whole, tmp_path, monkeypatch, capsys, step, number
):
    _, wanted, _ = whole

    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        # The signal comes from outside in life; here from a callback, at a known step.
        plain = training.loop.fit_steps
        patch.setattr(
            training.loop,
            "fit_steps",
            lambda *a, callbacks, **k: plain(*a, callbacks=[*callbacks, KillAt(step, number)], **k),
        )
        # So slowly that what does not wait for the files does not have them.
        write = Snapshot.write
        patch.setattr(Snapshot, "write", lambda *a: time.sleep(0.3) or write(*a))
        with pytest.raises(Interrupted) as stop:
            run(tmp_path / "parts", falling)
    assert stop.value.signal_number == number
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers

    model, trained = run(tmp_path / "parts", falling)
    assert f"Going on from step {step} of {TOTAL}" in capsys.readouterr().out
    assert trained.best["loss"] == 7.0
    assert_same(model, wanted)


def test_the_best_epochs_weights_are_kept(tmp_path, capsys):
    losses = {1: 5.0, 2: 3.0, 3: math.nan}
    model, trained = run(tmp_path, lambda epoch, step: {"loss": losses[epoch]})
    assert trained.best["loss"] == 3.0
    assert "Kept: the weights of epoch 2, the best loss." in capsys.readouterr().out
    state = Checkpoints(tmp_path / "checkpoints", model).restore_best()
    assert state is not None and state["step"] == 8
    assert int(model.optimizer.iterations) == 8
    assert names_in(tmp_path / "checkpoints") == [
        "best-000000008",
        "step-000000008",
        "step-000000011",
    ]


def test_what_is_best_is_said_by_a_named_metric(tmp_path):
    seen = {1: 0.5, 2: 0.8, 3: 0.7}

    def validate(epoch: int, step: int) -> dict[str, float]:
        return {"loss": 10.0 - epoch, "accuracy": seen[epoch]}

    metric = BestMetric.named("accuracy")
    model, trained = run(tmp_path, validate, best_metric=metric, patience=2)
    assert trained.best == {"loss": 8.0, "accuracy": 0.8}
    assert int(model.optimizer.iterations) == 8
    with pytest.raises(InputError, match="another best metric: 'accuracy', and now it is 'loss'"):
        run(tmp_path, validate)
    with pytest.raises(InputError, match="--best_metric f1 is not measured here. Give one of loss"):
        run(tmp_path / "f1", validate, best_metric=BestMetric.named("f1"))


def test_skipped_steps_are_counted_over_a_resume(whole, tmp_path):
    folder, _, _ = whole
    model = create_model()
    model.skipped_counts = (3, 1)
    checkpoints = Checkpoints(tmp_path, model)
    checkpoints.save({})
    again = create_model()
    assert again.skipped_counts == (0, 0)
    Checkpoints(tmp_path, again).restore_latest()
    assert again.skipped_counts == (3, 1)


def test_another_learning_rate_is_not_gone_on_with(tmp_path):
    run(tmp_path, falling)
    model = create_model()
    schedule = optimization.warmup_cosine(0.02, total_steps=TOTAL)
    model.compile(optimization.adamw(schedule, model.trainable_variables), accumulate_steps=2)
    identity = {"best metric": "loss", **optimizer_identity(model.optimizer)}
    checkpoints = Checkpoints(tmp_path / "checkpoints", model, identity=identity)
    with pytest.raises(InputError, match=r"another optimizer's learning_rate: .*0\.01.*0\.02"):
        checkpoints.restore_latest()


def test_a_checkpoint_after_each_multiple_of_some_steps(tmp_path):
    keep = {"keep": 100, "checkpoint_steps": 3}
    run(tmp_path, falling, **keep)
    # And at the end of each epoch, the best of which is the last.
    wanted = [3, 4, 6, 8, 9, 11]
    names = [f"step-{step:09d}" for step in wanted]
    assert names_in(tmp_path / "checkpoints") == ["best-000000011", *names]
    # Counted from the start of the run: not from where it went on.
    for name in ("best-000000011", *names[2:]):
        shutil.rmtree(tmp_path / "checkpoints" / name)
    run(tmp_path, falling, **keep)
    assert names_in(tmp_path / "checkpoints") == ["best-000000011", *names]


def test_patience_ends_a_run_and_a_resumed_one_too(tmp_path):
    calls = []

    def rising(epoch: int, step: int) -> dict[str, float]:
        calls.append(step)
        return {"loss": float(epoch)}

    _, trained = run(tmp_path, rising, patience=1)
    assert (trained.steps, trained.best["loss"], calls) == (8, 1.0, [4, 8])
    run(tmp_path, rising, patience=1)
    assert calls == [4, 8]


def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path, capsys):
    folder, _, _ = whole
    model = create_model()
    copy = tmp_path / "checkpoints"
    shutil.copytree(folder / "checkpoints", copy)
    newest = copy / "step-000000011" / "weights.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:-50])
    assert Checkpoints(copy, model).restore_latest()["step"] == 8
    assert "step-000000011 is damaged" in capsys.readouterr().out
    (copy / "step-000000008" / "state.json").write_text("{")
    with pytest.raises(InputError, match="none of the 1 checkpoints"):
        Checkpoints(copy, model).restore_latest()


def test_killed_between_an_epochs_last_step_and_its_validation(whole, tmp_path):
    """The newest checkpoint is of the epoch's end, and says that it was not validated."""
    folder, wanted, _ = whole
    for last in (8, 11):
        copy = tmp_path / str(last)
        shutil.copytree(folder / "checkpoints", copy / "checkpoints")
        for path in (copy / "checkpoints").iterdir():
            if int(path.name[-9:]) > last or path.name == f"best-{last:09d}":
                shutil.rmtree(path)
        state_file = copy / "checkpoints" / f"step-{last:09d}" / "state.json"
        state = json.loads(state_file.read_text())
        state_file.write_text(json.dumps(state | {"compared_at": 4, "best": {"loss": 9.0}}))
        seen = []

        def validate(epoch: int, step: int, seen=seen) -> dict[str, float]:
            seen.append((epoch, step))
            return falling(epoch, step)

        model, trained = run(copy, validate)
        assert seen == [(2, 8), (3, 11)][-1 if last == 11 else 0 :]
        assert trained.best["loss"] == 7.0
        assert_same(model, wanted)


def test_a_run_that_diverged_is_refused(tmp_path):
    with pytest.raises(InputError, match="training diverged: after 11 steps"):
        run(tmp_path, lambda epoch, step: {"loss": math.nan})


def test_another_text_is_not_gone_on_with(whole):
    folder, _, _ = whole
    checkpoints = Checkpoints(
        folder / "checkpoints", create_model(), identity={"training text": "b"}
    )
    with pytest.raises(InputError, match="another training text: None, and now it is 'b'"):
        checkpoints.restore_latest()
