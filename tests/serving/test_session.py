import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.serving import Session, SessionError, TensorSpec, newest_version

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def session(bundle):
    with Session(bundle / "3") as session:
        yield session


def run_fresh(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )


def test_signatures_are_read_from_the_graph(session):
    assert list(session.signatures) == ["checked", "serving_default", "several"]
    several = session.signatures["several"]
    assert several.inputs["ids"] == TensorSpec("several_ids:0", "int32", (None, None))
    assert several.inputs["keep"].dtype == "bool"
    scores = session.signatures["serving_default"].outputs["scores"]
    assert str(scores) == "<float32>[?, 2]"


def test_strings_tables_ragged_and_text_ops(session):
    outputs = session.run("serving_default", {"texts": ["a b b", "", "b zebra"]})
    assert outputs["joined"].tolist() == [b"a|b|b", b"", b"b|zebra"]
    assert outputs["length"].tolist() == [3, 0, 2]
    assert outputs["id_sum"].tolist() == [5, 0, 1]
    np.testing.assert_array_equal(outputs["scores"], [[4.5, -7.5], [0, 0], [3, -5]])
    assert outputs["scores"].dtype == np.float32


def test_every_byte_of_a_string_arrives(session):
    texts = [b"", b"\x00", b"a\x00b\x00", b"\xff\xfe", "今天🙂".encode(), b"x" * 22, b"y" * 23]
    texts.append(b"z" * 1_000_000)
    inputs = {
        "text": texts,
        "ids": np.ones([len(texts), 2], np.int32),
        "weight": np.ones(len(texts), np.float32),
        "keep": [True] * len(texts),
    }
    assert session.run("several", inputs)["raw_bytes"].tolist() == texts


def test_numbers_and_booleans_arrive_in_their_places(session):
    inputs = {
        "text": ["p", "q"],
        "ids": [[1, 2, 3], [4, 5, 6]],
        "weight": [0.5, 2],
        "keep": [True, False],
    }
    assert session.run("several", inputs)["total"].tolist() == [3.0, -1.0]


def test_an_empty_batch(session):
    outputs = session.run("serving_default", {"texts": []})
    assert outputs["joined"].shape == (0,)
    assert outputs["scores"].shape == (0, 2)


def test_every_numeric_dtype_comes_back_as_it_went(tmp_path):
    names = ["float32", "float64", "float16", "int8", "int16", "int32", "int64"]
    names += ["uint8", "uint16", "uint32", "uint64", "bool"]
    specs = [tf.TensorSpec([None, 2], tf.as_dtype(name), name) for name in names]
    echo = tf.function(
        lambda *tensors: {
            name: tf.identity(tensor) for name, tensor in zip(names, tensors, strict=True)
        },
        input_signature=specs,
    )
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"serving_default": echo})
    sent = {name: np.array([[0, 1], [100, 7]]).astype(name) for name in names}
    with Session(tmp_path) as session:
        received = session.run("serving_default", sent)
    for name in names:
        assert received[name].dtype == sent[name].dtype
        np.testing.assert_array_equal(received[name], sent[name])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"wanted": np.array([1], np.int32)}, "int32"),
        ({"wanted": [1.5]}, "float64"),
        ({"wanted": ["1"]}, "expects int64"),
        ({"wanted": [[1], [2, 3]]}, "expects int64"),
        ({"wanted": [2**63]}, "out of range"),
        ({}, r"\['wanted'\], not \[\]"),
        ({"wanted": [1], "other": [1]}, "other"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(session, inputs, words):
    with pytest.raises(SessionError, match=words) as caught:
        session.run("checked", inputs)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_an_op_that_fails_gives_its_code_and_message(session):
    with pytest.raises(SessionError, match="assertion failed") as caught:
        session.run("checked", {"wanted": [4, 5]})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert session.run("checked", {"wanted": [4]})["same"].tolist() == [4]


def test_an_unknown_signature_names_the_known_ones(session):
    with pytest.raises(SessionError, match='"nope".*checked, serving_default, several'):
        session.run("nope", {})


def test_threads_get_their_own_answers(session):
    def ask(i):
        texts = [f"{i} a " + "b " * (i % 5), f"word{i}" * 50]
        outputs = session.run("serving_default", {"texts": texts})
        return outputs["joined"].tolist() == ["|".join(t.split()).encode() for t in texts]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(300)))


def test_closing_waits_for_requests_in_flight(bundle):
    session = Session(bundle / "3")
    texts = ["a b " * 2000] * 100
    answers = []

    def ask():
        answers.append(session.run("serving_default", {"texts": texts})["length"].tolist())

    started = threading.Thread(target=ask)
    started.start()
    while not session._running and started.is_alive():
        pass
    session.close()
    started.join()
    assert answers == [[4000] * 100]
    session.close()
    with pytest.raises(SessionError, match="CANCELLED"):
        session.run("serving_default", {"texts": texts})


def test_long_strings_are_freed(session):
    def anonymous_kilobytes():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if "RssAnon" in line)

    texts = ["x" * 1_000_000] * 8

    def ask(times):
        for _ in range(times):
            session.run("serving_default", {"texts": texts})

    ask(5)
    before = anonymous_kilobytes()
    ask(30)  # 240 MB, were the requests kept
    assert anonymous_kilobytes() - before < 100_000


def test_a_folder_without_a_model_is_the_users_fault(tmp_path):
    with pytest.raises(InputError, match="holds no saved_model.pb"):
        Session(tmp_path)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: os.truncate(folder / "saved_model.pb", 500), "OUT_OF_RANGE"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b""), "NOT_FOUND"),
        (
            lambda folder: (folder / "variables/variables.data-00000-of-00001").unlink(),
            "NOT_FOUND",
        ),
    ],
)
def test_a_damaged_bundle_gives_tensorflows_code(bundle, tmp_path, damage, code):
    subprocess.run(["cp", "-r", bundle / "3", tmp_path / "1"], check=True)
    damage(tmp_path / "1")
    with pytest.raises(SessionError) as caught:
        Session(tmp_path / "1")
    assert caught.value.code == code


def test_newest_version_is_the_largest_integer(bundle, tmp_path):
    for name in ("2", "10", "9", ".tmp-11", "latest", "12a"):
        (tmp_path / name).mkdir()
    assert newest_version(tmp_path) == tmp_path / "10"
    assert newest_version(bundle) == bundle / "3"
    assert newest_version(bundle / "3") == bundle / "3"
    with pytest.raises(InputError, match="no bundle"):
        newest_version(tmp_path / "2")
    with pytest.raises(InputError, match="No such file"):
        newest_version(tmp_path / "missing")


class Forbidden(tf.Module):
    """Things that load in the server and then fail every call."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def python(self, x):
        return {"y": tf.ensure_shape(tf.py_function(lambda v: v + 1, [x], tf.float32), [None])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def compiled(self, x):
        return {"y": tf.function(lambda v: v + 1, jit_compile=True)(x)}


def test_a_fresh_process_is_like_the_server(tmp_path):
    model = Forbidden()
    signatures = {"python": model.python, "compiled": model.compiled}
    tf.saved_model.save(model, str(tmp_path), signatures=signatures)
    code = """
import sys
from tfllm.serving import Session, SessionError
with Session(sys.argv[1]) as session:
    for name in ("python", "compiled"):
        try:
            session.run(name, {"x": [1.0]})
        except SessionError as error:
            print(name, error.code, error.message)
print("tensorflow" in sys.modules)
"""
    done = run_fresh(code, tmp_path)
    python, compiled, imported = done.stdout.splitlines()[0], done.stdout, done.stdout.split()[-1]
    assert python.startswith("python INVALID_ARGUMENT No OpKernel was registered"), done
    assert "compiled INTERNAL" in compiled and "XLA compilation disabled" in compiled
    assert imported == "False"


def test_without_the_wheel_it_says_so(bundle, tmp_path):
    import google.protobuf

    for package in (Path(np.__file__).parent, Path(google.protobuf.__file__).parents[1]):
        (tmp_path / package.name).symlink_to(package)
    libraries = Path(np.__file__).parents[1] / "numpy.libs"
    (tmp_path / "numpy.libs").symlink_to(libraries)
    code = "import sys; from tfllm.serving import Session; Session(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(bundle / "3")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        check=False,
    )
    assert "RuntimeError: a session needs the package 'tensorflow'" in done.stderr


def test_importing_the_rooms_imports_nothing_heavy():
    code = """
import sys, tfllm.serving, tfllm.export
print([name for name in ("tensorflow", "numpy", "google.protobuf") if name in sys.modules])
"""
    assert run_fresh(code).stdout == "[]\n"
