"""What lies in a version beside the model, and beside the versions."""

import json
import shlex
import subprocess

import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from tfllm import serving
from tfllm.errors import InputError
from tfllm.export import Card, ServedModel, batching_parameters, export_bundle, models_config
from tfllm.export.deployment import SERVER, compose_file, kubernetes_file
from tfllm.export.probes import AWKWARD_TEXTS, batches
from tfllm.export.server_versions import server_versions


class Vocabulary:
    """Has what an exporter asks of a tokenizer."""

    fingerprint = "f"

    def save(self, folder):
        folder.mkdir()
        (folder / "vocab.txt").write_text("a\nb\n")


@pytest.fixture(scope="module")
def bundle(scorer_class, tmp_path_factory):
    scorer = scorer_class()
    card = Card(
        "text scoring",
        ["bad|worse", "good"],
        {"accuracy": 0.912345678, "f1 of nobody": None},
        "Made of *tests*.",
    )
    version = export_bundle(
        {"serving_default": scorer.score, "again": scorer.score},
        tmp_path_factory.mktemp("bundles"),
        "My_tiny.1",
        modules=[scorer],
        tokenizer=Vocabulary(),
        card=card,
    )
    return version.parent


def test_the_server_warms_up_with_every_signature(bundle):
    path = bundle / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(path))
    ]
    widths = [
        (request.model_spec.signature_name, len(request.inputs["texts"].string_val[0]))
        for request in records
    ]
    assert [name for name, _ in widths] == ["serving_default"] * 3 + ["again"] * 3
    assert [width for _, width in widths[:3]] == sorted(width for _, width in widths[:3])
    assert widths[0][1] == 0 and widths[2][1] == 5000
    with serving.Session(bundle / "1") as session:
        for request in records:
            texts = tf.make_ndarray(request.inputs["texts"])
            scores = session.run(request.model_spec.signature_name, {"texts": texts})["scores"]
            assert scores.shape == (1, 2)


def test_the_vocabulary_lies_in_the_assets(bundle):
    assert (bundle / "1" / "assets" / "tokenizer" / "vocab.txt").read_text() == "a\nb\n"


def test_batching_is_as_asked():
    assert batching_parameters(max_batch_size=8).splitlines() == [
        "max_batch_size { value: 8 }",
        "batch_timeout_micros { value: 0 }",
        "max_enqueued_batches { value: 100 }",
        "enable_large_batch_splitting { value: true }",
    ]
    with pytest.raises(InputError, match="max_batch_size is too small. Received: 0"):
        batching_parameters(max_batch_size=0)


def parsed(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def test_the_models_config_is_read_as_it_is_meant(bundle):
    (config,) = parsed((bundle / "models.config").read_text()).model_config_list.config
    assert (config.name, config.base_path) == ("My_tiny.1", "/models/My_tiny.1")
    assert config.model_platform == "tensorflow"
    assert config.model_version_policy.latest.num_versions == 1
    models = [
        ServedModel('a "quoted" é\\', "/models/ü x", [3, 4], {"stable": 3, "canary": 4}),
        ServedModel("b", "gs://bucket/b"),
    ]
    first, second = parsed(models_config(models)).model_config_list.config
    assert (first.name, first.base_path) == ('a "quoted" é\\', "/models/ü x")
    assert list(first.model_version_policy.specific.versions) == [3, 4]
    assert dict(first.version_labels) == {"stable": 3, "canary": 4}
    assert second.base_path == "gs://bucket/b"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([ServedModel("a", "/a"), ServedModel("a", "/b")], "two models are called 'a'"),
        ([ServedModel("a", "models/a")], "must be absolute. Received: 'models/a'"),
        ([ServedModel("a", "/a", [1], {"x": 2})], "label of 'a' stands for version 2"),
    ],
)
def test_a_config_that_no_server_starts_with_is_refused(models, message):
    with pytest.raises(InputError, match=message):
        models_config(models)


def answers(probe, reply):
    """Run a probe's command against a server that gives one reply; say whether it passes."""
    server = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); c, _ = s.accept(); r = c.recv(9999); "
        "c.sendall(sys.argv[1].encode()); c.close(); print(r.decode())"
    )
    with subprocess.Popen(
        ["python3", "-c", server, reply], stdout=subprocess.PIPE, text=True
    ) as process:
        port = process.stdout.readline().strip()
        command = [word.replace("/8501", f"/{port}") for word in probe]
        passed = subprocess.run(command, capture_output=True, check=False).returncode == 0
        assert process.stdout.read().startswith("GET /v1/models/tiny HTTP/1.0")
    return passed


def test_kubernetes_gets_probes_ports_and_memory():
    deployment, service = yaml.safe_load_all(kubernetes_file("tiny", 500 << 20))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"tensorflow/serving:{SERVER}"
    assert container["command"] == ["tensorflow_model_server"]
    assert "--model_config_file=/models/tiny/models.config" in container["args"]
    assert [port["containerPort"] for port in container["ports"]] == [8500, 8501]
    assert container["resources"]["requests"]["memory"] == "2024Mi"
    assert [port["port"] for port in service["spec"]["ports"]] == [8500, 8501]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    probe = container["readinessProbe"]["exec"]["command"]
    head = "HTTP/1.0 200 OK\r\n\r\n"
    assert answers(probe, f'{head}{{"model_version_status": [{{ "state": "AVAILABLE" }}]}}')
    assert not answers(probe, f'{head}{{"model_version_status": [{{ "state": "END" }}]}}')


@pytest.mark.parametrize("name", ["My_tiny.1", "7up", "_", "a" * 200])
def test_kubernetes_accepts_the_names(name):
    deployment, _ = yaml.safe_load_all(kubernetes_file(name, 0))
    label = deployment["metadata"]["name"]
    assert len(label) <= 63 and label[0].isalpha() and label[-1].isalnum()
    assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_compose_knows_both_images():
    file = yaml.safe_load(compose_file("tiny"))
    cpu, gpu = file["services"]["cpu"], file["services"]["gpu"]
    assert (cpu["image"], gpu["image"]) == (
        f"tensorflow/serving:{SERVER}",
        f"tensorflow/serving:{SERVER}-gpu",
    )
    for service in (cpu, gpu):
        assert service["entrypoint"] == ["tensorflow_model_server"]
        (mount,) = service["volumes"]
        assert mount["source"] == "." and mount["target"] == "/models/tiny"
        assert "--monitoring_config_file=/models/tiny/monitoring.config" in service["command"]
        assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert f"tensorflow/serving:{SERVER}" in serving.docker_run_line("/x/tiny")


def test_the_card_shows_what_the_bundle_answered(bundle):
    card = (bundle / "README.md").read_text()
    assert "Text scoring.\n\nMade of *tests*." in card
    assert "- bad|worse" in card or "- bad\\|worse" in card
    assert "| accuracy | 0.912346 |" in card and "| f1 of nobody | not defined |" in card
    # What the server warms up with is run, and compared with nothing.
    assert f"answered {2 * len(list(batches({'texts': AWKWARD_TEXTS})))} requests as the" in card
    blocks = card.split("```")
    curl = next(block for block in blocks if block.startswith("sh\ncurl")).removeprefix("sh\n")
    words = shlex.split(curl)
    assert words[1] == "http://127.0.0.1:8501/v1/models/My_tiny.1:predict"
    shown = json.loads(next(b for b in blocks if b.startswith("json")).removeprefix("json"))
    with serving.Session(bundle / "1") as session:
        real = json.loads(serving.answer(session, json.loads(words[3])))
    assert shown == real
    (config,) = parsed(
        next(b for b in blocks if b.startswith("proto")).removeprefix("proto")
    ).model_config_list.config
    assert dict(config.version_labels) == {"stable": 1}


def test_the_table_of_servers_knows_the_ops():
    table = dict(server_versions(["MatMul", "TFText>RoundRobinTrim"]))
    assert table["2.16 to 2.19"] == "no: they lack TFText>RoundRobinTrim"
    assert dict(server_versions(["MatMul"]))["2.16 to 2.19"].startswith("they have the ops")
