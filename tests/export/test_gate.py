import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as text
from tensorflow.core.protobuf import saved_model_pb2

from tfllm.export import ExportError, export_bundle
from tfllm.export.gate import check_bundle, prove
from tfllm.export.probes import Case
from tfllm.export.state_checks import check_state
from tfllm.serving import Session

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
    assert "'y' has 14 rows for a batch of 7" in str(error)
    assert "texts=[b'a b', " in error.request


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


@pytest.mark.parametrize("grows", [True, False])
def test_a_bundle_that_grows_is_refused(tmp_path, grows):
    """The rules for ops refuse such a table before; here it is asked all the same."""
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "")

    def serve(texts):
        if grows:
            size = module.table.size()
            long = tf.strings.reduce_join(tf.repeat(tf.strings.as_string(size), 20_000))
            module.table.insert(size[None], long[None])
        return {"y": lengths(texts)}

    serve = tf.function(serve, input_signature=[TEXTS])
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": serve})
    case = Case("serving_default", {"texts": np.array([b"a"], object)}, {})
    with Session(tmp_path / "1") as session:
        if not grows:
            assert check_state(session, [case], calls=1000, seconds=600) == 1000
            return
        with pytest.raises(ExportError, match=r"refused \(state.*memory grew by \d+ MiB"):
            check_state(session, [case], calls=1000, seconds=600)


def test_a_bundle_whose_answers_change_is_refused(tmp_path):
    module = tf.Module()
    module.count = tf.Variable(0.0)

    def serve(texts):
        return {"y": lengths(texts) + module.count.assign_add(1.0)}

    module.serve = tf.function(serve, input_signature=[TEXTS])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    case = Case("serving_default", {"texts": np.array([b"a"], object)}, {})
    with (
        Session(tmp_path / "1") as session,
        pytest.raises(ExportError, match="'y' changes when the same request is sent"),
    ):
        check_state(session, [case], calls=10)


def test_a_bundle_that_does_not_load_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "1")
    (tmp_path / "1" / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ExportError, match=r"refused \(load\): NOT_FOUND"):
        prove(tmp_path / "1", [], tolerance=1e-5)


@pytest.mark.parametrize("output", [lambda y: (y - 3) / (y - 3), lambda y: 1 / (y - 3)])
def test_what_is_no_number_is_refused(tmp_path, output):
    error = refusal(lambda texts: {"y": output(lengths(texts))}, tmp_path)
    assert error.check == "answers" and "JSON can't carry it" in str(error)


@pytest.mark.parametrize(
    "output",
    [
        lambda y: y - tf.reduce_mean(y),
        lambda y: y[:1] + 0 * y,
        lambda y: tf.cumsum(y),
        lambda y: tf.where(y > 3, "many", tf.strings.as_string(tf.reduce_max(y))),
    ],
)
def test_an_output_that_depends_on_the_neighbours_is_refused(tmp_path, output):
    texts = {"serving_default": {"texts": ["a", "bb", "ccccc", "dddddddd"]}}
    error = refusal(lambda texts: {"y": output(lengths(texts))}, tmp_path, probes=texts)
    assert error.check == "neighbours" and "'y' depends on a row's neighbours" in str(error)


def test_an_output_as_wide_as_the_batch_needs_passes(tmp_path):
    @tf.function(input_signature=[TEXTS])
    def serve(texts):
        words = tf.strings.split(texts)
        lengths = tf.strings.length(words)
        return {"words": words.to_tensor(""), "lengths": lengths.to_tensor(-1)}

    probes = {"serving_default": {"texts": ["a", "b c", "d e f", ""]}}
    version = export_bundle(
        {"serving_default": serve}, tmp_path, "x", modules=[tf.Module()], probes=probes
    )
    assert version.is_dir()


def test_weights_that_changed_after_tracing_are_refused(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(2.0)

    @tf.function(input_signature=[TEXTS])
    def serve(texts):
        return {"y": lengths(texts) * float(module.frozen)}

    module.frozen = 2.0
    serve(["traced"])
    module.frozen = 3.0
    with pytest.raises(ExportError, match="changed after this function was traced") as caught:
        export_bundle({"serving_default": serve}, tmp_path, "x", modules=[module])
    assert (caught.value.check, caught.value.signature) == ("stale", "serving_default")
    assert not list(tmp_path.iterdir())


def test_weights_in_variables_may_change_after_tracing(scorer, tmp_path):
    before = scorer.score(["a b"])["scores"].numpy()
    scorer.weights.assign_add(tf.ones_like(scorer.weights))
    version = export_bundle({"serving_default": scorer.score}, tmp_path, "x", modules=[scorer])
    with Session(version) as session:
        scores = session.run("serving_default", {"texts": ["a b"]})["scores"]
    np.testing.assert_array_equal(scores, before + 3)


def test_a_file_that_is_gone_is_named(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    module = tf.Module()
    initializer = tf.lookup.TextFileInitializer(str(words), tf.string, 0, tf.int64, -1)
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    words.unlink()
    error = refusal(lambda texts: {"y": module.table.lookup(texts)}, tmp_path, module)
    assert error.check == "asset" and f"the file {words}, which a table reads, is gone" in str(
        error
    )


def test_a_bundle_without_its_file_is_refused(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    module = tf.Module()
    initializer = tf.lookup.TextFileInitializer(str(words), tf.string, 0, tf.int64, -1)
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    serve = tf.function(lambda texts: {"y": module.table.lookup(texts)}, input_signature=[TEXTS])
    version = export_bundle({"serving_default": serve}, tmp_path, "x", modules=[module])
    (version / "assets" / "words.txt").unlink()
    with pytest.raises(ExportError, match=r"refused \(load\).*words.txt"):
        prove(version, [], tolerance=1e-5)


def test_an_op_that_the_server_lacks_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "1")
    path = tmp_path / "1" / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    functions = graph.meta_graphs[0].graph_def.library.function
    length = next(n for f in functions for n in f.node_def if n.op == "StringLength")
    length.op = "Elsewhere>Length"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ExportError, match=r"refused \(load\).*'Elsewhere>Length'"):
        prove(tmp_path / "1", [], tolerance=1e-5)


@pytest.mark.parametrize("op", [lambda t: tf.print(t), lambda t: tf.io.read_file(t[0])])
def test_what_touches_the_world_outside_is_refused(tmp_path, op):
    def serve(texts):
        with tf.control_dependencies([op(texts)]):
            return {"y": lengths(texts)}

    path = tmp_path / "out"
    path.mkdir()
    (tmp_path / "a").write_text("")
    probes = {"serving_default": {"texts": [str(tmp_path / "a")]}}
    error = refusal(serve, path, probes=probes)
    assert error.check == "graph" and "outside the request" in str(error)


def test_the_gate_refuses_a_process_that_has_tensorflow(tmp_path):
    with pytest.raises(RuntimeError, match="has not imported TensorFlow"):
        check_bundle(tmp_path, [], 1e-5)
