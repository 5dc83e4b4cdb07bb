"""Which process writes, and what the others leave alone."""

import json

import pytest

from tfllm.cli import CommonConfig, Run
from tfllm.errors import InputError

CLUSTER = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def set_variable(kind: str, index: object, cluster: object = CLUSTER) -> None:
        value = {"cluster": cluster, "task": {"type": kind, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(value))

    return set_variable


def test_worker_0_is_the_chief_unless_there_is_one_of_that_name(place):
    config = CommonConfig(run_dir="r")
    place("worker", 0)
    assert Run(config, "toy").is_chief
    place("worker", 1)
    assert not Run(config, "toy").is_chief
    cluster = CLUSTER | {"chief": ["127.0.0.1:3"]}
    place("worker", 0, cluster)
    assert not Run(config, "toy").is_chief
    place("chief", 0, cluster)
    assert Run(config, "toy").is_chief


def test_the_others_write_nothing_and_mind_no_lock(place, tmp_path, capsys):
    config = CommonConfig(run_dir="r", resume="never", export_dir="e")
    place("worker", 1)
    other = Run(config, "toy")
    assert other.open() == other.directory
    other.finish()
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
    place("worker", 0)
    chief = Run(config, "toy")
    assert chief.open() == other.directory
    # What the chief has begun is no obstacle for a worker that starts later.
    place("worker", 1)
    assert Run(config, "toy").open() == chief.directory
    chief._lock.close()  # held until the process ends


def test_workers_need_one_folder(place):
    for index in (0, 1):
        place("worker", index)
        with pytest.raises(InputError, match="give all of them the same --run_dir"):
            Run(CommonConfig(), "toy")
    assert Run(CommonConfig(strategy="one"), "toy").is_chief


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("{", r"can't be read. Received: \{. Give"),
        ("[]", "can't be read"),
        ('{"cluster": {}}', "can't be read"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "no place"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "no place"),
    ],
)
def test_a_variable_that_cannot_be_used(monkeypatch, variable, message):
    monkeypatch.setenv("TF_CONFIG", variable)
    with pytest.raises(InputError, match=message):
        Run(CommonConfig(run_dir="r"), "toy")
