"""What a run is watched with: guard, curves, profiler, estimate, operations."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import GPT2Config

from tfllm.errors import InputError
from tfllm.models import CausalLM
from tfllm.training.flops import flops_per_token, measured_peak_flops
from tfllm.training.memory import memory_bytes, peak_memory_bytes
from tfllm.training.profile_steps import ProfileSteps
from tfllm.training.run_estimate import Estimate, estimate
from tfllm.training.step_guard import StepGuard
from tfllm.training.tensorboard import TensorBoardLog

CONFIG = GPT2Config(vocab_size=13, n_positions=6, n_embd=8, n_layer=2, n_head=2)


def batches_with(bad: set[int], hard: set[int] = frozenset()):
    """Batches of one repeated row; `bad` ones have no finite loss, `hard` ones other targets."""

    def batches(first: int, steps: int) -> tf.data.Dataset:
        def rows():
            for step in range(first, first + steps):
                ids = np.tile(np.arange(7, dtype=np.int32), (4, 1))
                targets = (ids[:, 1:] * 5) % 13 if step in hard else ids[:, 1:]
                weights = np.full((4, 6), np.nan if step in bad else 1.0, np.float32)
                yield {"input_ids": ids[:, :-1]}, targets, weights

        ids = tf.TensorSpec([4, 6], tf.int32)
        return tf.data.Dataset.from_generator(
            rows, output_signature=({"input_ids": ids}, ids, tf.TensorSpec([4, 6], tf.float32))
        )

    return batches


@pytest.fixture
def model() -> CausalLM:
    model = CausalLM.from_config(CONFIG)
    model.compile(keras.optimizers.Adam(0.03))
    return model


def fit(model, batches, steps, *callbacks):
    model.fit(batches(0, steps), steps_per_epoch=steps, callbacks=list(callbacks), verbose=0)


def test_too_many_steps_in_a_row_end_the_run_and_keep_the_batch(model, tmp_path):
    batches = batches_with(bad={3, *range(6, 20)})
    guard = StepGuard(
        batches, tmp_path, most_in_a_row=4, every=2, rows_of=lambda step: [step, step + 100]
    )
    with pytest.raises(InputError, match=r"at step 10: .* of the last 4 steps") as caught:
        fit(model, batches, 20, guard)
    assert "rows 9, 109" in str(caught.value)
    with np.load(tmp_path / "bad-batch-step-10.npz") as saved:
        assert np.isnan(saved["weights"]).all() and saved["input_ids"].shape == (4, 6)
    assert guard.skipped == 5


def test_a_few_bad_steps_are_only_counted(model, tmp_path):
    batches = batches_with(bad={2, 5})
    guard = StepGuard(batches, tmp_path)
    fit(model, batches, 12, guard)
    assert guard.skipped == 2 and not list(tmp_path.iterdir())


def test_a_loss_that_jumps_is_named(model, tmp_path, capsys):
    batches = batches_with(bad=set(), hard={55})
    guard = StepGuard(batches, tmp_path, rows_of=lambda step: range(20))
    fit(model, batches, 60, guard)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "jumped" in line]
    assert line.startswith("Step 56: loss ") and "rows 0, 1, 2, 3, 4, 5, 6, 7 and 12 more" in line
    assert guard.jumps == 1


def task_of(step: int) -> str:
    return "easy" if step % 3 else "hard"


def test_losses_of_several_tasks_are_compared_apart(tmp_path):
    losses = {"easy": 0.5, "hard": 5.0}
    apart, mixed = (StepGuard(None, tmp_path, task_of=how) for how in (task_of, None))
    for step in range(90):
        logs = {"step_loss": losses[task_of(step)] + 0.01 * (step % 5)}
        for guard in (apart, mixed):
            guard.on_train_batch_end(step, logs)
    assert apart.jumps == 0 and mixed.jumps > 10


def test_losses_of_several_tasks_are_drawn_apart(model, tmp_path):
    log = TensorBoardLog(tmp_path, tokens_per_step=24, task_of=task_of)
    fit(model, batches_with(bad=set(), hard=set(range(0, 90, 3))), 90, log)
    found = curves(tmp_path / "train")
    assert [step for step, _ in found["loss/hard"]] == [1, 13, 25, 37, 49, 61, 73, 85]
    hard, easy = (np.mean([value for _, value in found[f"loss/{n}"]]) for n in ("hard", "easy"))
    assert hard > 1.5 * easy


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if not tag.startswith("_hparams_")
    }


def test_curves_of_a_run(model, tmp_path):
    log = TensorBoardLog(
        tmp_path,
        tokens_per_step=24,
        every=5,
        utilisation_per_token=1e-6,
        hyperparameters={"learning_rate": 0.03, "train": ("a", "b"), "test": ()},
    )
    fit(model, batches_with(bad={7}), 20, log)
    found = curves(tmp_path / "train")
    at_each = {"loss", "learning_rate", "gradient_norm", "padding", "skipped_steps", "memory_mib"}
    assert at_each | {"step_seconds", "tokens_per_second", "model_flops_utilisation"} == set(found)
    for name in at_each:
        assert [step for step, _ in found[name]] == [5, 10, 15, 20]
    assert [value for _, value in found["skipped_steps"]] == [0, 1, 1, 1]
    for (_, seconds), (_, speed) in zip(
        found["step_seconds"], found["tokens_per_second"], strict=True
    ):
        assert speed == pytest.approx(24 / seconds, rel=1e-4)
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    assert (
        "hparams" in events.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name
    )


def test_profiling_some_steps(model, tmp_path):
    fit(model, batches_with(bad=set()), 6, ProfileSteps((3, 4), tmp_path))
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_an_estimate_is_measured(model):
    found = estimate(model, batches_with(bad=set()))
    assert found.first_step_seconds > found.step_seconds > 0
    assert found.peak_bytes == peak_memory_bytes() > 2**20 and memory_bytes() > 2**20
    text = Estimate(10.0, 0.5, 2**30).text(1001)
    assert text.startswith("1,001 steps of 0.5 s after a first one of 10.0 s: about 8 min")
    assert "1,024 MiB" in text


@pytest.mark.parametrize("tied", [True, False])
def test_operations_of_a_token(tied):
    config = GPT2Config(
        vocab_size=100, n_positions=16, n_embd=8, n_layer=3, n_head=2, tie_word_embeddings=tied
    )
    # By hand: each block has 12 · 8² weights in products, the head 100 · 8.
    expected = 6 * (3 * 12 * 64 + 800) + 12 * 3 * 8 * 16
    assert flops_per_token(CausalLM.from_config(config), 16) == expected


def test_a_peak_is_measured():
    assert measured_peak_flops() > 1e8
