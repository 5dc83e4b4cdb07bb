"""Weights stored in half precision and computed with in float32."""

import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.serving import Session

NUMBERS = {"serving_default": {"numbers": [[1.0] * 64, [0.1] * 64, [-3.0] * 64]}}


class Dense(tf.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        generator = np.random.default_rng(1)
        self.kernel = tf.Variable(scale * generator.normal(size=[64, 512]), dtype=tf.float32)
        self.bias = tf.Variable(generator.normal(size=[512]), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, "numbers")])
    def serve(self, numbers):
        return {"y": numbers @ self.kernel + self.bias}


def export(model, folder, storage):
    return export_bundle(
        {"serving_default": model.serve},
        folder,
        storage,
        modules=[model],
        probes=NUMBERS,
        storage=storage,
    )


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_matrices_are_stored_as_halves_and_used_as_float32(tmp_path, storage):
    model = Dense()
    before = model.kernel.numpy()
    version = export(model, tmp_path, storage)
    np.testing.assert_array_equal(model.kernel, before)

    saved = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    types = {tuple(shape): saved.get_variable_to_dtype_map()[name] for name, shape in
             saved.get_variable_to_shape_map().items() if shape}  # fmt: skip
    assert types == {(64, 512): tf.as_dtype(storage), (512,): tf.float32}
    assert (version / "variables" / "variables.data-00000-of-00001").stat().st_size < 70_000

    numbers = np.array(NUMBERS["serving_default"]["numbers"], np.float32)
    rounded = tf.cast(tf.cast(before, storage), tf.float32).numpy()
    with Session(version) as session:
        got = session.run("serving_default", {"numbers": numbers})["y"]
    np.testing.assert_allclose(got, numbers @ rounded + model.bias.numpy(), atol=1e-4)
    assert np.abs(got - (numbers @ before + model.bias.numpy())).max() > 1e-3


def test_a_weight_too_large_for_float16_is_refused(tmp_path):
    model = Dense(scale=1e5)
    before = model.kernel.numpy()
    with pytest.raises(InputError, match=r"holds .*e\+05, which float16 can't: store the weights"):
        export(model, tmp_path, "float16")
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(model.kernel, before)


def test_another_type_is_refused(tmp_path):
    with pytest.raises(InputError, match="storage must be one of float32, float16, bfloat16"):
        export(Dense(), tmp_path, "int8")
