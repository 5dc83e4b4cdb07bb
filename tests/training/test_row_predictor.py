import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from task_rows import LENGTHS, Classifier, batches_of, new_model

from tfllm.errors import InputError
from tfllm.training.row_predictor import RowPredictor, predict_rows


@pytest.fixture(scope="module")
def model() -> Classifier:
    return new_model()


def alone(model: Classifier, row: int) -> np.ndarray:
    """Logits of one row without company or padding, `[tokens, classes]`."""
    ids = (row * 7 + np.arange(LENGTHS[row])) % 29
    return model({"input_ids": ids[None].astype(np.int32)})[0].numpy()


def cross_entropy(logits: np.ndarray, target: int) -> float:
    return float(np.log(np.exp(logits).sum()) - logits[target])


def test_rows_come_in_their_order_without_fillers_and_padding(model, tmp_path):
    batches = batches_of(tmp_path)
    order = np.concatenate([batches.plan.rows(step).rows for step in range(3)])
    assert order.tolist() != sorted(order) and len(order) == 11  # so that there is work to do
    found = predict_rows(model, batches)
    assert found.rows.tolist() == list(range(11))
    assert found.outputs["targets"].tolist() == [row % 3 for row in range(11)]
    assert found.outputs["weights"].tolist() == [1.0] * 11 and found.weight == 11.0
    losses = []
    for row in range(11):
        logits = alone(model, row)
        scores = np.exp(logits[0]) / np.exp(logits[0]).sum()
        np.testing.assert_allclose(found.outputs["scores"][row], scores, atol=1e-5)
        np.testing.assert_array_equal(found.outputs["tags"][row], logits.argmax(axis=-1))
        assert found.outputs["best"][row] == logits[0].argmax()
        losses.append(cross_entropy(logits[0], row % 3))
    assert found.loss == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("size", [1, 3, 11, 20])
def test_the_size_of_batches_changes_nothing(model, tmp_path, size):
    found, usual = (predict_rows(model, batches_of(tmp_path, size=n)) for n in (size, 4))
    assert found.loss == pytest.approx(usual.loss, abs=1e-5)
    np.testing.assert_allclose(found.outputs["scores"], usual.outputs["scores"], atol=1e-5)
    assert found.outputs["scores"].shape == (11, 3)


def test_targets_of_tokens(model, tmp_path):
    found = predict_rows(model, batches_of(tmp_path, targets="tags"))
    assert [len(tags) for tags in found.outputs["tags"]] == LENGTHS
    losses = []
    for row, length in enumerate(LENGTHS):
        targets = (row * 7 + np.arange(length)) % 29 % 3
        np.testing.assert_array_equal(found.outputs["targets"][row], targets)
        np.testing.assert_array_equal(found.outputs["weights"][row], np.ones(length))
        logits = alone(model, row)
        losses += [cross_entropy(logits[i], target) for i, target in enumerate(targets)]
    assert found.weight == sum(LENGTHS)
    assert found.loss == pytest.approx(np.mean(losses), abs=1e-5)


def test_a_matrix_of_targets_has_a_row_s_weight(model, tmp_path):
    found = predict_rows(model, batches_of(tmp_path, targets="some"))
    targets = np.array([[n % 2, n % 3 == 0] for n in LENGTHS], np.float32)
    np.testing.assert_array_equal(found.outputs["targets"], targets)
    assert found.outputs["weights"].shape == (11,) and found.weight == 22.0
    logits = np.stack([alone(model, row)[0, :2] for row in range(11)])
    assert found.loss == pytest.approx(np.square(logits - targets).mean(), rel=1e-5)


def test_without_targets_there_is_no_loss(model, tmp_path):
    found = predict_rows(model, batches_of(tmp_path, targets=None))
    assert (found.loss, found.weight) == (0.0, 0.0) and len(found.outputs["scores"]) == 11


def test_one_graph_for_all_passes(tmp_path):
    model = new_model()
    predictor = RowPredictor(model)
    before = predictor.predict(batches_of(tmp_path))
    model.head.bias.assign([5.0, 0.0, 0.0])
    after = predictor.predict(batches_of(tmp_path, size=3), progress=False)
    assert model.forwards_traced == 1
    assert after.outputs["scores"][:, 0].min() > before.outputs["scores"][:, 0].min()


def test_the_loss_is_that_of_evaluate(model, tmp_path):
    model.compile("sgd")
    batches = batches_of(tmp_path)
    loss = model.evaluate(batches.dataset(), verbose=0)
    assert predict_rows(model, batches).loss == pytest.approx(loss, rel=1e-5)


def test_no_rows(model, tmp_path):
    with pytest.raises(InputError, match="no rows to predict"):
        predict_rows(model, batches_of(tmp_path, lengths=[]))


def test_one_of_two_devices_predicts_what_one_alone_does(tmp_path):
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        from task_rows import batches_of, new_model
        from tfllm.training.row_predictor import predict_rows
        batches = batches_of(Path(sys.argv[1]))
        alone = new_model()
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            mirrored = new_model(seed=4)
        assert len(mirrored.head.kernel.values) == 2
        mirrored.set_weights(alone.get_weights())
        one, two = (predict_rows(model, batches) for model in (alone, mirrored))
        assert abs(one.loss - two.loss) < 1e-6, (one.loss, two.loss)
        assert np.abs(one.outputs["scores"] - two.outputs["scores"]).max() < 1e-6
        print("equal")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout.splitlines()[-1:] == ["equal"], done.stderr[-3000:]


def test_steps_can_begin_anywhere_and_hold_what_the_whole_pass_does(model, tmp_path):
    batches = batches_of(tmp_path)
    predictor = RowPredictor(model)
    whole = predictor.predict(batches)
    steps = list(predictor.predict_steps(batches, 1))
    assert [rows.tolist() for rows, _ in steps] == [
        batches.plan.rows(i).rows.tolist() for i in (1, 2)
    ]
    for rows, outputs in steps:
        np.testing.assert_array_equal(outputs["scores"], whole.outputs["scores"][rows])
