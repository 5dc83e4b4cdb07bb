import fcntl
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfllm.errors import InputError
from tfllm.export import Card, ExportError, gate
from tfllm.export import export_bundle as export_any_bundle
from tfllm.serving import Session

export_bundle = functools.partial(export_any_bundle, card=Card())

ROOT = Path(__file__).parents[2]
EXPORTER = Path(__file__).with_name("exporter.py")
BESIDE = [
    "README.md",
    "docker-compose.yml",
    "kubernetes.yaml",
    "models.config",
    "monitoring.config",
]
A_TEXT = {"serving_default": {"texts": ["a b"]}}


def test_a_bundle_holds_what_serves_and_nothing_else(scorer, tmp_path):
    version = export_bundle({"serving_default": scorer.score}, tmp_path, "tiny", modules=[scorer])
    assert version == tmp_path / "tiny" / "1"
    files = (path for path in tmp_path.rglob("*") if path.is_file())
    names = sorted(path.relative_to(tmp_path).as_posix() for path in files)
    assert names == [
        "tiny/1/assets.extra/tf_serving_warmup_requests",
        "tiny/1/batching_params.pbtxt",
        "tiny/1/fingerprint.pb",
        "tiny/1/saved_model.pb",
        "tiny/1/variables/variables.data-00000-of-00001",
        "tiny/1/variables/variables.index",
        *(f"tiny/{name}" for name in BESIDE),
    ]
    saved = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    shapes = [shape for name, shape in saved.get_variable_to_shape_map().items() if shape]
    assert shapes == [[2, 2]]
    with Session(version) as session:
        scores = session.run("serving_default", {"texts": ["a b"]})["scores"]
    np.testing.assert_array_equal(scores, [[3 * 2 + 3, 3 * 3 + 3]])


def test_without_a_card_a_version_is_bare(scorer, tmp_path):
    signatures = {"serving_default": scorer.score}
    version = export_any_bundle(signatures, tmp_path, "tiny", modules=[scorer], probes=A_TEXT)
    assert sorted(os.listdir(version)) == [
        "assets",
        "fingerprint.pb",
        "saved_model.pb",
        "variables",
    ]
    assert os.listdir(tmp_path / "tiny") == ["1"]


def test_versions_count_up_from_the_largest(scorer, tmp_path):
    (tmp_path / "tiny" / "41").mkdir(parents=True)
    (tmp_path / "tiny" / "notes").mkdir()
    (tmp_path / "tiny" / ".tmp-dead" / "variables").mkdir(parents=True)
    for expected in ("42", "43"):
        version = export_bundle(
            {"serving_default": scorer.score}, tmp_path, "tiny", modules=[scorer], probes=A_TEXT
        )
        assert version.name == expected
    assert sorted(os.listdir(tmp_path / "tiny")) == ["41", "42", "43", *BESIDE, "notes"]


def test_a_trained_keras_model_leaves_its_training_behind(tmp_path):
    inputs = keras.Input([3], name="features")
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs))
    model.compile("adam", "mse")
    model.fit(np.ones([4, 3]), np.ones([4, 2]), verbose=0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "features")])
    def serve(features):
        return {"head": model(features)}

    probes = {"serving_default": {"features": [[1.0, 2.0, 3.0], [0.0, -1.0, 1e9]]}}
    version = export_bundle(
        {"serving_default": serve}, tmp_path, "k", modules=[model], probes=probes
    )
    saved = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    shapes = [shape for shape in saved.get_variable_to_shape_map().values() if shape]
    assert sorted(shapes) == [[2], [3, 2]]
    assert not (version / "keras_metadata.pb").exists()
    graph = (version / "saved_model.pb").read_bytes()
    assert b"train" not in graph and b"Adam" not in graph
    assert len(graph) < 20_000


def test_table_files_travel_with_the_bundle(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    module = tf.Module()
    module.vocabulary = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(words),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        num_oov_buckets=1,
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def serve(texts):
        return {"id": module.vocabulary.lookup(texts)}

    version = export_bundle({"serving_default": serve}, tmp_path / "out", "v", modules=[module])
    words.unlink()
    with Session(version) as session:
        ids = session.run("serving_default", {"texts": ["b", "zebra"]})["id"]
    assert ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "/tmp/x", "a b", "7", "-rf", "naïve", "a\n", "a:b"]
)
def test_a_name_that_is_no_plain_name_is_refused(scorer, tmp_path, name):
    with pytest.raises(InputError, match="a bundle's name must be"):
        export_bundle({"serving_default": scorer.score}, tmp_path, name, modules=[scorer])
    assert not list(tmp_path.iterdir())


def test_signatures_and_probes_must_fit_each_other(scorer, tmp_path):
    with pytest.raises(ValueError, match="'serving_default'"):
        export_bundle({"score": scorer.score}, tmp_path, "tiny", modules=[scorer])
    for probes in ({"other": {}}, {"serving_default": {"text": ["a"]}}, {"serving_default": {}}):
        with pytest.raises(ValueError, match="probes"):
            export_bundle(
                {"serving_default": scorer.score}, tmp_path, "t", modules=[scorer], probes=probes
            )
    assert not list(tmp_path.iterdir())


def test_what_the_module_does_not_track_is_named(scorer, tmp_path):
    with pytest.raises(ExportError, match="none of the modules tracks") as caught:
        export_bundle({"serving_default": scorer.score}, tmp_path, "tiny", modules=[tf.Module()])
    assert (caught.value.check, caught.value.signature) == ("tracking", "serving_default")
    assert not list(tmp_path.iterdir())


def test_a_refused_export_leaves_no_trace(scorer, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def first(texts):
        return {"first": texts[0]}

    signatures = {"serving_default": scorer.score, "first": first}
    with pytest.raises(ExportError):
        export_bundle(signatures, tmp_path / "new" / "dir", "tiny", modules=[scorer])
    assert not list(tmp_path.iterdir())

    export_bundle({"serving_default": scorer.score}, tmp_path, "tiny", modules=[scorer])
    with pytest.raises(ExportError):
        export_bundle(signatures, tmp_path, "tiny", modules=[scorer])
    assert sorted(os.listdir(tmp_path / "tiny")) == ["1", *BESIDE]


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(scorer, tmp_path):
    (tmp_path / "file").write_text("")
    signatures = {"serving_default": scorer.score}
    with pytest.raises(InputError, match="Not a directory"):
        export_bundle(signatures, tmp_path / "file", "tiny", modules=[scorer], probes=A_TEXT)
    with pytest.raises(InputError, match="File name too long"):
        long = tmp_path / ("n" * 300)
        export_bundle(signatures, long, "tiny", modules=[scorer], probes=A_TEXT)
    with pytest.raises(InputError, match="have at most 200 characters"):
        export_bundle(signatures, tmp_path, "n" * 300, modules=[scorer], probes=A_TEXT)
    if os.geteuid():
        forbidden = tmp_path / "forbidden"
        forbidden.mkdir(mode=0o500)
    else:
        forbidden = Path("/sys/kernel")  # not even root may make folders there
    with pytest.raises(InputError, match="Permission denied|not permitted|Read-only"):
        export_bundle(signatures, forbidden, "tiny", modules=[scorer], probes=A_TEXT)
    assert sorted(os.listdir(tmp_path)) == ["file"] + ["forbidden"] * bool(os.geteuid())


def test_a_file_that_cannot_grow_leaves_no_trace(scorer_class, tmp_path):
    model = scorer_class(rows=50_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match="File too large"):
            export_bundle({"serving_default": model.score}, tmp_path, "tiny", modules=[model])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_trace(scorer_class, tmp_path):
    model = scorer_class(rows=200_000)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine doesn't let us mount a tiny disk")
    try:
        with pytest.raises(InputError, match="No space left") as caught:
            export_bundle({"serving_default": model.score}, tmp_path, "tiny", modules=[model])
        assert str(caught.value).startswith(f"can't write the bundle {tmp_path}/tiny: ")
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture(scope="module")
def exporter():
    """A process that starts an endless exporter for every folder it is told."""
    with subprocess.Popen(
        [sys.executable, EXPORTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("seed", range(2))
def test_killed_exports_leave_no_half_version(exporter, tmp_path, scorer, seed):
    """Two processes export into one bundle, for ever, until both are killed."""
    print(tmp_path, file=exporter.stdin, flush=True)
    pids = [int(word) for word in exporter.stdout.readline().split()]
    assert exporter.stdout.readline().strip() == str(tmp_path / "big" / "1")
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert exporter.stdout.readline().strip() == "dead"

    left = sorted(os.listdir(tmp_path / "big"))
    numbers = sorted(int(name) for name in left if name.isdecimal())
    assert numbers == list(range(1, len(numbers) + 1))
    for number in numbers:
        with Session(tmp_path / "big" / str(number)) as session:
            assert session.run("serving_default", {"texts": ["abc"]})["length"] == [3.0]
    assert all(
        name.startswith(".tmp-") for name in left if not name.isdecimal() and name not in BESIDE
    )

    version = export_bundle(
        {"serving_default": scorer.score}, tmp_path, "big", modules=[scorer], probes=A_TEXT
    )
    assert int(version.name) == len(numbers) + 1
    left = sorted(os.listdir(tmp_path / "big"))
    assert not any(name.startswith(".tmp-") for name in left) and set(BESIDE) <= set(left)


def test_exporters_of_one_bundle_wait_for_one_another(scorer, tmp_path):
    signatures = {"serving_default": scorer.score}
    export_bundle(signatures, tmp_path, "tiny", modules=[scorer], probes=A_TEXT)
    descriptor = os.open(tmp_path / "tiny", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    versions = []

    def export():
        versions.append(
            export_bundle(signatures, tmp_path, "tiny", modules=[scorer], probes=A_TEXT).name
        )

    waiting = threading.Thread(target=export)
    waiting.start()
    time.sleep(0.5)
    assert sorted(os.listdir(tmp_path / "tiny")) == ["1", *BESIDE]
    (tmp_path / "tiny" / "2").mkdir()  # the one that holds the lock publishes
    os.close(descriptor)
    waiting.join()
    assert versions == ["3"]


def test_the_last_versions_are_kept(scorer, tmp_path):
    def export(keep):
        return export_bundle(
            {"serving_default": scorer.score},
            tmp_path,
            "tiny",
            modules=[scorer],
            probes=A_TEXT,
            keep=keep,
        ).name

    assert [export(None) for _ in range(3)] == ["1", "2", "3"]
    (tmp_path / "tiny" / "0").mkdir()  # a number, and none of ours
    assert export(2) == "4"
    assert sorted(os.listdir(tmp_path / "tiny")) == ["0", "3", "4", *BESIDE]
    with pytest.raises(InputError, match="keep must be at least 1 version. Received: 0"):
        export(0)


def test_what_fails_after_publishing_is_only_warned_of(scorer, tmp_path, monkeypatch, caplog):
    """Whoever the gate's process is, the folder is another's by the time it ends."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    signatures, modules = {"serving_default": scorer.score}, [scorer]
    monkeypatch.chdir(tmp_path)

    def export(**more):
        return export_bundle(signatures, "b", "tiny", modules=modules, probes=A_TEXT, **more)

    assert export() == Path("b/tiny/1")
    card = Path("b/tiny/README.md").read_text()
    os.chmod(tmp_path, 0o755)
    os.chmod("b/tiny", 0o1777)  # as /tmp is: nobody may touch what others own
    prove = gate.prove

    def prove_and_become_nobody(folder, *rest):
        proof = prove(folder, *rest)
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
        return proof

    monkeypatch.setattr(gate, "prove", prove_and_become_nobody)
    try:
        version = export(keep=1)
    finally:
        os.seteuid(0)
    assert version == Path("b/tiny/2") and (version / "saved_model.pb").is_file()
    assert sorted(os.listdir("b/tiny")) == ["1", "2", *BESIDE]
    assert Path("b/tiny/README.md").read_text() == card
    said = [record.getMessage() for record in caplog.records]
    for name in BESIDE:
        assert sum(f"b/tiny/{name} beside it can't be replaced" in line for line in said) == 1
    assert [line for line in said if line.startswith("b/tiny/1 should go")]
    assert len(said) == len(BESIDE) + 1


def test_what_a_person_made_their_own_is_left_alone(scorer, tmp_path):
    def export():
        export_bundle(
            {"serving_default": scorer.score}, tmp_path, "tiny", modules=[scorer], probes=A_TEXT
        )

    export()
    config, card = tmp_path / "tiny" / "models.config", tmp_path / "tiny" / "README.md"
    own = config.read_text().split("\n", 1)[1] + "# with labels\n"
    config.write_text(own)
    assert "## Version 1" in card.read_text()
    export()
    assert config.read_text() == own
    assert "## Version 2" in card.read_text()
