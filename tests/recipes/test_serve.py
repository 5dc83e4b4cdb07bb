"""What `serve.py` prints for bundles; the preview server has tests of its own."""

import ctypes
import shlex

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2


@pytest.fixture
def bundles(tmp_path):
    for name in ("books", "films"):
        version = tmp_path / "saved models" / name / "1"
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
    return tmp_path / "saved models"


def command(done):
    assert done.code == 0, done.err
    line = next(line for line in done.out.splitlines() if "docker run" in line)
    return shlex.split(line)


def test_one_bundle(recipe, bundles):
    words = command(recipe("serve", "--bundle", bundles / "books"))
    assert f"type=bind,source={bundles}/books,target=/models/books,readonly" in words
    assert words[-1].startswith("tensorflow/serving:")


def test_a_folder_of_bundles(recipe, bundles):
    done = recipe("serve", "--bundle", bundles)
    words = command(done)
    assert f"type=bind,source={bundles},target=/models/saved models,readonly" in words
    assert words[-1] == "--model_config_file=/models/saved models/models.config"
    config = done.out.split("models.config:\n\n")[1].split("\nServe them")[0]
    parsed = text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
    paths = [model.base_path for model in parsed.model_config_list.config]
    assert paths == ["/models/saved models/books", "/models/saved models/films"]


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (".", "holds no bundle"),
        ("nowhere", "can't be read: No such file or directory"),
        ("saved models/books/1", "is one version: give saved models/books"),
    ],
)
def test_what_is_no_bundle_is_refused_in_one_line(recipe, bundles, bundle, message):
    done = recipe("serve", "--bundle", bundle)
    assert (done.code, done.out) == (2, "")
    assert message in done.err and done.err.count("\n") == 1


def give_up_roots_privileges():
    """Root reads closed folders too; without two of its capabilities it is like anybody."""
    drop, override_access, override_reading = 24, 1, 2  # PR_CAPBSET_DROP and what it drops
    libc = ctypes.CDLL(None)
    libc.prctl(drop, override_access)
    libc.prctl(drop, override_reading)


@pytest.mark.parametrize("preview", [[], ["--preview"]])
def test_a_folder_that_is_closed_is_named(recipe, bundles, preview):
    closed = bundles / "closed"
    closed.mkdir(mode=0)
    done = recipe("serve", "--bundle", bundles, *preview, before=give_up_roots_privileges)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: --bundle {closed} can't be read: Permission denied\n"
