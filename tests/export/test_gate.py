import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as text

from tfllm.export import ExportError, export_bundle
from tfllm.export.gate import check_bundle, prove
from tfllm.export.probes import Case

TEXTS = tf.TensorSpec([None], tf.string, "texts")
ONE_TEXT = {"serving_default": {"texts": ["a b"]}}


def refusal(function, folder, module=None, probes=ONE_TEXT, spec=TEXTS):
    """Export one function, which must be refused, and return why."""
    serve = tf.function(function, input_signature=[spec])
    with pytest.raises(ExportError) as caught:
        export_bundle(
            {"serving_default": serve}, folder, "x", modules=[module or tf.Module()], probes=probes
        )
    assert not list(folder.iterdir())
    return caught.value


def lengths(texts):
    return tf.cast(tf.strings.length(texts), tf.float32)


def test_text_ops_and_ragged_tensors_pass(tmp_path):
    tokenizer = text.WhitespaceTokenizer()

    @tf.function(input_signature=[TEXTS])
    def serve(texts):
        words = tokenizer.tokenize(texts)
        starts = tf.strings.substr(words.flat_values, 0, 1)
        return {
            "starts": tf.strings.reduce_join(words.with_values(starts), axis=1),
            "words": words.row_lengths(),
            "long": words.row_lengths() > 3,
            "square": tf.map_fn(lambda n: n * n, words.row_lengths()),
        }

    assert export_bundle({"serving_default": serve}, tmp_path, "x", modules=[tf.Module()]).is_dir()


def test_python_is_refused(tmp_path):
    def serve(texts):
        upper = tf.numpy_function(lambda t: t, [texts], tf.string, stateful=False)
        return {"y": tf.ensure_shape(upper, [None])}

    error = refusal(serve, tmp_path)
    assert error.check == "graph"
    assert "op PyFuncStateless" in str(error) and "runs Python" in str(error)


def test_py_function_is_refused_also_inside_a_loop(tmp_path):
    def serve(texts):
        def body(row):
            return tf.ensure_shape(tf.py_function(lambda v: v, [row], tf.string), [])

        return {"y": tf.map_fn(body, texts)}

    error = refusal(serve, tmp_path)
    assert "op EagerPyFunc" in str(error) and "in function" in str(error)


def test_jit_compile_is_refused(tmp_path):
    doubled = tf.function(lambda x: x * 2, jit_compile=True)
    error = refusal(lambda texts: {"y": doubled(lengths(texts))}, tmp_path)
    assert error.check == "graph"
    assert "jit_compile=True" in str(error)


def test_stateful_random_numbers_are_refused(tmp_path):
    error = refusal(
        lambda texts: {"y": lengths(texts) + 0 * tf.random.uniform(tf.shape(texts), seed=1)},
        tmp_path,
    )
    assert "op RandomUniform" in str(error) and "stateless" in str(error)


def test_a_generator_is_refused(tmp_path):
    module = tf.Module()
    module.generator = tf.random.Generator.from_seed(1)
    error = refusal(
        lambda texts: {"y": lengths(texts) + module.generator.normal([1])}, tmp_path, module
    )
    assert "op RngReadAndSkip" in str(error) and "hidden state" in str(error)


def test_stateless_random_numbers_pass(tmp_path):
    @tf.function(input_signature=[TEXTS, tf.TensorSpec([None], tf.int32, "seed")])
    def serve(texts, seed):
        noise = tf.map_fn(
            lambda s: tf.random.stateless_normal([], tf.stack([s, 0])), seed, tf.float32
        )
        return {"y": lengths(texts) + noise}

    probes = {"serving_default": {"texts": ["a", "bb", "ccc"], "seed": [1, 2**31 - 1]}}
    exported = export_bundle(
        {"serving_default": serve}, tmp_path, "x", modules=[tf.Module()], probes=probes
    )
    assert exported.is_dir()


def test_a_table_that_grows_is_refused(tmp_path):
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    error = refusal(lambda texts: {"y": module.table.lookup(texts)}, tmp_path, module)
    assert "op MutableHashTableV2" in str(error) and "StaticHashTable" in str(error)


def test_writing_a_variable_is_refused(tmp_path):
    module = tf.Module()
    module.cache = tf.Variable(0.0)

    def serve(texts):
        module.cache.assign(tf.reduce_sum(lengths(texts)))
        return {"y": lengths(texts) + module.cache}

    error = refusal(serve, tmp_path, module)
    assert "op AssignVariableOp" in str(error) and "concurrent" in str(error)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda texts: tf.cast(lengths(texts), tf.bfloat16), "<bfloat16>[?]: its type must be"),
        (lambda texts: tf.cast(lengths(texts), tf.float16), "<float16>[?]: its type must be"),
        (lambda texts: tf.reduce_sum(lengths(texts)), "<float32>[]: its first dimension"),
        (lambda texts: tf.zeros([3]), "<float32>[3]: its first dimension"),
        (lambda texts: tf.py_function(len, [texts], tf.int32), "runs Python"),
    ],
)
def test_an_output_that_rest_cannot_carry_is_refused(tmp_path, output, words):
    error = refusal(lambda texts: {"y": output(texts)}, tmp_path)
    assert words in str(error)


@pytest.mark.parametrize("shape", [[1], [], None])
def test_an_input_that_is_no_batch_is_refused(tmp_path, shape):
    spec = tf.TensorSpec(shape, tf.string, "texts")
    error = refusal(lambda texts: {"y": tf.reshape(texts, [-1])}, tmp_path, spec=spec)
    assert (error.check, error.signature) == ("signature", "serving_default")
    assert "input 'texts'" in str(error)


def test_an_output_of_other_length_than_the_batch_is_refused(tmp_path):
    error = refusal(lambda texts: {"y": lengths(tf.strings.split(texts).flat_values)}, tmp_path)
    assert (error.check, error.signature) == ("answers", "serving_default")
    assert "'y' has 2 rows for a batch of 1" in str(error)
    assert "texts=[b'a b']" in error.request


def case_of(texts, scores):
    texts = np.array(texts, dtype=object)
    return Case("serving_default", {"texts": texts}, {"scores": np.array(scores, np.float32)})


@pytest.fixture(scope="module")
def saved(scorer_class, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    scorer = scorer_class()
    return export_bundle({"serving_default": scorer.score}, folder, "x", modules=[scorer])


def test_answers_within_the_tolerance_pass(saved):
    prove(saved, [case_of([b"a b"], [[9 + 5e-5, 12]])], tolerance=1e-5)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[9.0, 12.001]], "'scores' at [0, 1] is np.float32(12.0), in memory np.float32(12.001)"),
        ([[np.nan, 12.0]], "at [0, 0] is np.float32(9.0), in memory np.float32(nan)"),
        ([[9.0, np.inf]], "at [0, 1] is np.float32(12.0), in memory np.float32(inf)"),
        ([[9.0]], "is float32[1, 2], in memory float32[1, 1]"),
    ],
)
def test_answers_that_differ_from_memory_are_refused(saved, scores, words):
    with pytest.raises(ExportError) as caught:
        prove(saved, [case_of([b"a b"], scores)], tolerance=1e-5)
    assert words in str(caught.value)
    assert (caught.value.check, caught.value.signature) == ("answers", "serving_default")
    assert caught.value.request == "texts=[b'a b']"


def test_a_bundle_that_does_not_load_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "1")
    (tmp_path / "1" / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ExportError, match=r"refused \(load\): NOT_FOUND"):
        prove(tmp_path / "1", [], tolerance=1e-5)


def test_the_same_not_a_number_passes(tmp_path):
    @tf.function(input_signature=[TEXTS])
    def serve(texts):
        return {"y": lengths(texts) / lengths(texts), "z": 1 / lengths(texts)}

    assert export_bundle({"serving_default": serve}, tmp_path, "x", modules=[tf.Module()]).is_dir()


def test_the_gate_refuses_a_process_that_has_tensorflow(tmp_path):
    with pytest.raises(RuntimeError, match="has not imported TensorFlow"):
        check_bundle(tmp_path, [], 1e-5)
