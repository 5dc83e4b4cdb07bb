import asyncio
import gzip
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from running_preview import ask, running_preview
from stub_models import write_half_plus_two, write_model

from tfllm.errors import InputError
from tfllm.serving import PreviewSettings, Session
from tfllm.serving._protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tfllm.serving._tensor_protos import array_of, proto_of
from tfllm.serving.preview.__main__ import main as preview_command
from tfllm.serving.preview.configuration import models_of_config
from tfllm.serving.preview.rest_paths import RestPath

ROOT = Path(__file__).parents[2]
PREDICT = "/v1/models/adder:predict"


def write_adder(folder, amount):
    """Write `y = x + amount`, with as many columns as `x` has."""
    inputs = {"x": (tf.float32, [None, 2])}
    write_model(folder, inputs, lambda x: {"y": (x + amount, [None, 2])})


def write_sleeper(folder):
    """Write a model that works for about half a second on each row."""

    def work(x):
        square = tf.while_loop(
            lambda step, _: step < 300,
            lambda step, square: (step + 1, tf.linalg.matmul(square, square) / 2.0),
            (0, tf.eye(400) * tf.reduce_mean(x)),
        )[1]
        return {"y": (x + 0.0 * tf.reduce_sum(square), [None])}

    write_model(folder, {"x": (tf.float32, [None])}, work)


@pytest.fixture
def bundles(tmp_path):
    write_adder(tmp_path / "adder/1", 1.0)
    return tmp_path


def predict(port, rows, path=PREDICT):
    status, _, body = ask(port, "POST", path, json.dumps({"instances": rows}))
    assert status == 200, body
    return json.loads(body)["predictions"]


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never happened")


def states(port, model="adder"):
    status, _, body = ask(port, "GET", f"/v1/models/{model}")
    assert status == 200
    entries = json.loads(body)["model_version_status"]
    return {int(entry["version"]): entry["state"] for entry in entries}


def test_a_new_version_takes_over_without_a_failed_request(bundles):
    write_adder(bundles / "next", 2.0)
    stop = threading.Event()
    seen = set()

    def client(port):
        while not stop.is_set():
            seen.update(row[0] for row in predict(port, [[0.0, 0.0]]))

    with (
        running_preview(folder=bundles, poll_seconds=0.05) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        clients = [pool.submit(client, server.rest_port) for _ in range(4)]
        wait_for(lambda: seen == {1.0})
        os.rename(bundles / "next", bundles / "adder/2")
        wait_for(lambda: states(server.rest_port) == {2: "AVAILABLE", 1: "END"})
        seen.clear()
        wait_for(lambda: seen)
        stop.set()
        for done in clients:
            done.result()
        assert seen == {2.0}
        assert ask(server.rest_port, "GET", "/v1/models/adder/versions/1/metadata")[0] == 404


def test_a_broken_version_leaves_the_old_one_serving(bundles):
    with running_preview(folder=bundles, poll_seconds=0.05) as server:
        (bundles / "adder/2").mkdir()
        wait_for(lambda: states(server.rest_port).get(2) == "END")
        _, _, body = ask(server.rest_port, "GET", "/v1/models/adder/versions/2")
        status = json.loads(body)["model_version_status"][0]["status"]
        assert status["error_code"] == "NOT_FOUND"
        assert "saved_model.pb" in status["error_message"]
        assert predict(server.rest_port, [[0.0, 1.0]]) == [[1.0, 2.0]]
        # Taken away and brought again, whole: it is tried again.
        shutil.rmtree(bundles / "adder/2")
        wait_for(lambda: 2 not in states(server.rest_port))
        write_adder(bundles / ".next", 2.0)
        os.rename(bundles / ".next", bundles / "adder/2")
        wait_for(lambda: states(server.rest_port).get(2) == "AVAILABLE")


def test_a_version_that_failed_is_tried_again(bundles, caplog):
    """Its files came late: its folder was never away, and it is served all the same."""
    caplog.set_level("INFO", logger="tfllm.serving.preview")
    retries = {"load_retries": 2, "load_retry_seconds": 0.3}
    with running_preview(folder=bundles, poll_seconds=0.05, **retries) as server:
        (bundles / "adder/2").mkdir()
        wait_for(lambda: states(server.rest_port).get(2) == "END")
        write_adder(bundles / "late", 2.0)
        for path in (bundles / "late").iterdir():
            path.rename(bundles / "adder/2" / path.name)
        wait_for(lambda: states(server.rest_port).get(2) == "AVAILABLE")
        _, _, body = ask(server.rest_port, "GET", "/v1/models/adder/versions/2")
        assert json.loads(body)["model_version_status"][0]["status"]["error_code"] == "OK"
        (bundles / "adder/3").mkdir()
        wait_for(lambda: "(not tried again)" in caplog.text)
    tries = [line for line in caplog.messages if line.startswith("can't load version 3 ")]
    assert ["tried again in 0.3 s" in line for line in tries] == [True, True, False]


def test_the_newest_going_away_gives_the_one_before(bundles):
    write_adder(bundles / "adder/7", 7.0)
    with running_preview(folder=bundles, poll_seconds=0.05) as server:
        assert predict(server.rest_port, [[0.0, 0.0]]) == [[7.0, 7.0]]
        shutil.rmtree(bundles / "adder/7")
        wait_for(lambda: predict(server.rest_port, [[0.0, 0.0]]) == [[1.0, 1.0]])
        # One that was served before, and let go of, comes back as well.
        write_adder(bundles / ".8", 8.0)
        os.rename(bundles / ".8", bundles / "adder/8")
        wait_for(lambda: states(server.rest_port) == {8: "AVAILABLE", 1: "END"})
        shutil.rmtree(bundles / "adder/8")
        wait_for(lambda: states(server.rest_port) == {1: "AVAILABLE"})
        assert predict(server.rest_port, [[0.0, 0.0]]) == [[1.0, 1.0]]
        write_adder(bundles / ".other", 5.0)
        (bundles / "other").mkdir()
        os.rename(bundles / ".other", bundles / "other/1")
        wait_for(lambda: ask(server.rest_port, "GET", "/v1/models/other")[0] == 200)


def test_a_configuration_file_gives_policies_and_labels(bundles):
    write_adder(bundles / "adder/2", 2.0)
    write_adder(bundles / "adder/3", 3.0)
    config = bundles / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{
          name: "sum" base_path: "{bundles / "adder"}" model_platform: "tensorflow"
          model_version_policy {{ specific {{ versions: 1 versions: 3 }} }}
          version_labels {{ key: "old" value: 1 }} version_labels {{ key: "new" value: 3 }} }} }}"""
    )
    with running_preview(model_config_file=config) as server:
        assert states(server.rest_port, "sum") == {3: "AVAILABLE", 1: "AVAILABLE"}
        for path, wanted in (("", 3.0), ("/labels/old", 1.0), ("/versions/3", 3.0)):
            path = f"/v1/models/sum{path}:predict"
            assert predict(server.rest_port, [[0.0, 0.0]], path) == [[wanted, wanted]]
        status, _, body = ask(server.rest_port, "POST", "/v1/models/sum/versions/2:predict", b"{}")
        assert status == 404 and b"Servable not found for request: Specific(sum, 2)" in body


def test_a_version_asked_for_comes_back_when_it_is_asked_for_again(bundles):
    config = bundles / "models.config"

    def configure(number):
        (bundles / "new").write_text(
            f"""model_config_list {{ config {{ name: "adder" base_path: "{bundles / "adder"}"
            model_platform: "tensorflow"
            model_version_policy {{ specific {{ versions: {number} }} }} }} }}"""
        )
        os.rename(bundles / "new", config)

    write_adder(bundles / "adder/2", 2.0)
    configure(1)
    with running_preview(model_config_file=config, poll_seconds=0.05) as server:
        port = server.rest_port
        for number, wanted in ((2, {1: "END", 2: "AVAILABLE"}), (1, {1: "AVAILABLE", 2: "END"})):
            configure(number)
            wait_for(lambda wanted=wanted: states(port) == wanted)
            assert predict(port, [[0.0, 0.0]]) == [[float(number)] * 2]


def test_labels_move_to_versions_that_can_answer(bundles, caplog):
    """As TF Serving has it with `--allow_version_labels_for_unavailable_models`."""
    caplog.set_level("WARNING", logger="tfllm.serving.preview")
    config = bundles / "models.config"

    def configure(versions, **labels):
        numbers = " ".join(f"versions: {number}" for number in versions)
        lines = " ".join(
            f'version_labels {{ key: "{label}" value: {n} }}' for label, n in labels.items()
        )
        (bundles / "new").write_text(
            f"""model_config_list {{ config {{ name: "adder" base_path: "{bundles / "adder"}"
            model_platform: "tensorflow" model_version_policy {{ specific {{ {numbers} }} }}
            {lines} }} }}"""
        )
        os.rename(bundles / "new", config)

    def labelled(port, label):
        path = f"/v1/models/adder/labels/{label}:predict"
        status, _, body = ask(port, "POST", path, '{"instances": [[0.0, 0.0]]}')
        return json.loads(body)["predictions"][0][0] if status == 200 else (status, body.decode())

    write_adder(bundles / "adder/2", 2.0)
    configure([1], stable=1, canary=2)
    with running_preview(model_config_file=config, poll_seconds=0.05) as server:
        port = server.rest_port
        assert labelled(port, "stable") == 1.0
        status, body = labelled(port, "canary")
        assert status == 404 and "Servable not found for request: Specific(adder, 2)" in body
        assert caplog.messages == ["label 'canary' of adder: version 2 is not loaded"]
        configure([1, 2], stable=2, canary=2)
        wait_for(lambda: len(caplog.messages) > 1)
        assert caplog.messages[1].startswith(
            "Request to assign label to version 2 of model adder, which is not currently available"
            " for inference: 'stable' stays at version 1"
        )
        assert (labelled(port, "stable"), 2 in states(port)) == (1.0, False)
        # The version first, and then the label, once the version is there.
        configure([1, 2], stable=1, canary=2)
        wait_for(lambda: labelled(port, "canary") == 2.0)
        configure([1, 2], stable=2, old=1)
        wait_for(lambda: labelled(port, "stable") == 2.0)
        assert (labelled(port, "old"), labelled(port, "canary")[0]) == (1.0, 400)
    assert len(caplog.messages) == 2  # nothing is said at every poll


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no model"),
        ("model_config_list {", "no ModelServerConfig"),
        ('config { name: "a" base_path: "/a" }', "model_platform"),
        ('config { name: "a" base_path: "a" model_platform: "tensorflow" }', "absolute base_path"),
        ('config { base_path: "/a" model_platform: "tensorflow" }', "without a name"),
        ('config { name: "a" base_path: "/a" model_platform: "tensorflow" }' * 2, "'a' twice"),
    ],
)
def test_a_configuration_that_the_server_refuses_is_refused(tmp_path, text, words):
    file = tmp_path / "models.config"
    file.write_text(f"model_config_list {{ {text} }}" if "config {" in text else text)
    with pytest.raises(InputError, match=words):
        models_of_config(file)


def test_requests_that_wait_together_get_their_own_rows(bundles):
    """With one worker, which is busy, all others wait and are then computed in one batch."""
    write_sleeper(bundles / "sleeper/1")
    with running_preview(folder=bundles, workers=1) as server, ThreadPoolExecutor(40) as pool:
        port = server.rest_port
        busy = pool.submit(predict, port, [1.0], "/v1/models/sleeper:predict")
        sent = [[[float(i), -float(i)]] * (i % 3 + 1) for i in range(39)]
        replies = list(pool.map(lambda rows: predict(port, rows), sent))
        assert busy.result() == [1.0]
    for rows, reply in zip(sent, replies, strict=True):
        assert reply == [[value + 1 for value in row] for row in rows]


def test_a_bad_request_spoils_no_other(bundles):
    """Wrong widths can't be batched with the others; a failing row fails alone."""

    def half(x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x >= 0), ["negative"])]):
            return {"y": (x / 2, [None])}

    write_model(bundles / "half/1", {"x": (tf.float32, [None])}, half)
    write_sleeper(bundles / "sleeper/1")
    with running_preview(folder=bundles, workers=1) as server, ThreadPoolExecutor(20) as pool:
        port = server.rest_port
        busy = pool.submit(predict, port, [1.0], "/v1/models/sleeper:predict")

        def send(value):
            body = json.dumps({"instances": [value]})
            return ask(port, "POST", "/v1/models/half:predict", body)

        values = [4.0, -1.0, 2.0, [1.0, 3.0], 8.0]
        replies = list(pool.map(send, values))
        busy.result()
    assert [status for status, _, _ in replies] == [200, 400, 200, 200, 200]
    assert b"negative" in replies[1][2]
    assert json.loads(replies[3][2]) == {"predictions": [[0.5, 1.5]]}
    assert json.loads(replies[4][2]) == {"predictions": [4.0]}


def test_overload_is_turned_away_at_once(bundles):
    write_sleeper(bundles / "sleeper/1")
    flags = {"workers": 1, "max_waiting": 2, "max_batch_rows": 1}
    with running_preview(folder=bundles, **flags) as server, ThreadPoolExecutor(12) as pool:
        body = '{"instances": [1.0]}'
        path = "/v1/models/sleeper:predict"
        replies = list(pool.map(lambda _: ask(server.rest_port, "POST", path, body), range(12)))
        statuses = [status for status, _, _ in replies]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 3
        busy = next(body for status, _, body in replies if status == 503)
        assert "queue to which this task was submitted is full" in json.loads(busy)["error"]
        assert predict(server.rest_port, [[0.0, 0.0]]) == [[1.0, 1.0]]


def test_a_request_has_its_time(bundles):
    write_sleeper(bundles / "sleeper/1")
    with running_preview(folder=bundles, workers=1, timeout_seconds=0.05) as server:
        path = "/v1/models/sleeper:predict"
        status, _, body = ask(server.rest_port, "POST", path, '{"instances": [1.0]}')
        assert status == 504, body
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "sleeper"
            request.inputs["x"].CopyFrom(proto_of(np.ones(1, np.float32)))
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request, timeout=30)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_session_gives_up_in_time(tmp_path):
    write_sleeper(tmp_path / "1")
    with Session(tmp_path / "1") as session:
        start = time.monotonic()
        with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
            session.run("serving_default", {"x": [1.0]}, timeout=0.01)
        late = time.monotonic() - start
        assert session.run("serving_default", {"x": [1.0]}, timeout=300)["y"].tolist() == [1.0]
        assert late < time.monotonic() - start


def test_a_request_may_be_so_large_and_no_larger(bundles):
    with running_preview(folder=bundles, max_request_bytes=2000) as server:
        rows = '{"instances": [[1.0, 2.0]]' + " " * 3000 + "}"
        gzipped = gzip.compress(rows.encode())
        assert len(gzipped) < 2000
        for body, headers in ((rows, {}), (gzipped, {"Content-Encoding": "gzip"})):
            status, _, reply = ask(server.rest_port, "POST", PREDICT, body, headers)
            assert (status, b"--max_request_bytes" in reply) == (413, True)
        cut = gzipped[:-20]
        _, _, reply = ask(server.rest_port, "POST", PREDICT, cut, {"Content-Encoding": "gzip"})
        assert b"The document is empty" in reply


def test_paths_are_read_as_the_server_reads_them(bundles):
    with running_preview(folder=bundles) as server:
        for method, path, status, words in [
            ("GET", "/v1/models/adder", 200, '"AVAILABLE"'),
            ("GET", "/V1/MODELS/adder/versions/1", 200, '"AVAILABLE"'),
            ("GET", "/v1/models/adder/labels/any", 200, '"AVAILABLE"'),
            ("GET", "/v1/models", 400, "Missing model name in request."),
            ("GET", "/v1/models/adder?x=1", 404, "any versions of model adder?x=1"),
            ("GET", "/v1/models/adder/METADATA", 400, "Malformed request: GET"),
            ("GET", "/v1/models/adder/labels/x/metadata", 400, "version label: x"),
            ("POST", "/v1/models/adder:PREDICT", 400, "Malformed request: POST"),
            ("POST", "/v1/models/adder:predict/", 400, "Malformed request: POST"),
            ("POST", "/v1/models/a%2Fb:predict", 404, "Latest(a/b)"),
            ("PUT", "/v1/models/adder", 400, "Malformed request: PUT"),
            ("POST", "/v1/models/adder:classify", 501, "answers :predict only"),
            ("GET", "/other", 404, "<TITLE>404 Not Found</TITLE>"),
            ("TRACE", "/v1/models/adder", 501, "<TITLE>501 Not Implemented</TITLE>"),
        ]:
            got, _, body = ask(server.rest_port, method, path, '{"instances": [[1, 2]]}')
            assert (got, words in body.decode()) == (status, True), (method, path, body)
        too_big = f"/v1/models/adder/versions/{2**63}:predict"
        assert ask(server.rest_port, "POST", too_big, b"{}")[::2] == (400, b"")


def test_counts_are_of_served_models_only(bundles):
    with running_preview(folder=bundles, enable_metrics=True) as server:
        predict(server.rest_port, [[0.0, 0.0]])
        for path in (PREDICT, "/v1/models/nobody:predict"):
            ask(server.rest_port, "POST", path, "{}")
        _, _, body = ask(server.rest_port, "GET", "/monitoring/prometheus/metrics")
        counts = body.decode().splitlines()[1:]
        name = ":tensorflow:serving:request_count"
        assert counts == [
            f'{name}{{model_name="adder",status="INVALID_ARGUMENT"}} 1',
            f'{name}{{model_name="adder",status="OK"}} 1',
        ]


def test_grpc_predicts_describes_and_tells_states(bundles):
    write_half_plus_two(bundles / "half_plus_two/5")
    with (
        running_preview(folder=bundles) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest(output_filter=["y"])
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([[2.0], [4.0]]))
        reply = stub.Predict(request, timeout=30)
        assert tf.make_ndarray(reply.outputs["y"]).tolist() == [[3.0], [4.0]]
        assert list(reply.outputs["y"].float_val) == [3.0, 4.0]
        assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (
            5,
            "serving_default",
        )
        asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        asked.model_spec.name = "half_plus_two"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        stub.GetModelMetadata(asked, timeout=30).metadata["signature_def"].Unpack(signatures)
        assert signatures.signature_def["serving_default"].inputs["x"].name == "x:0"

        models = model_service_pb2_grpc.ModelServiceStub(channel)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "half_plus_two"
        entry = models.GetModelStatus(status, timeout=30).model_version_status[0]
        assert (entry.version, entry.state) == (5, 30)
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            reload = model_management_pb2.ReloadConfigRequest()
            models.HandleReloadConfigRequest(reload, timeout=30)


@pytest.mark.parametrize(
    "name",
    ["float32", "float64", "float16", "bfloat16", "bool", "string"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)],
)
def test_tensors_are_packed_as_tensorflow_packs_them(name):
    dtype = tf.as_dtype(name)
    values = [[b"a", b""], [b"\x00\xff", b"b"]] if name == "string" else [[0, 1], [1, 0]]
    array = np.array(values, object if name == "string" else dtype.as_numpy_dtype)
    for proto in (proto_of(array), tf.make_tensor_proto(array)):
        assert tf.make_ndarray(proto).tolist() == array.tolist()
        assert array_of(proto).tolist() == array.tolist()
        assert array_of(proto).dtype == array.dtype
    one = tf.make_tensor_proto(array[0, 0], dtype=dtype)
    one.tensor_shape.dim.add(size=3)  # TensorFlow's short form of three equal values
    assert array_of(one).tolist() == [array[0, 0].item() if name != "string" else b"a"] * 3


def warmup_file(folder, *values):
    path = folder / "assets.extra/tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for value in values:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def test_warmup_requests_are_run_and_a_failing_one_stops_the_version(bundles):
    warmup_file(bundles / "adder/1", [[1.0, 2.0]])
    with running_preview(folder=bundles / "adder", poll_seconds=0.05) as server:
        write_adder(bundles / ".2", 2.0)
        warmup_file(bundles / ".2", [[1.0, 2.0]], ["text"])
        os.rename(bundles / ".2", bundles / "adder/2")
        wait_for(lambda: states(server.rest_port).get(2) == "END")
        assert predict(server.rest_port, [[0.0, 0.0]]) == [[1.0, 1.0]]


def start(*arguments):
    command = [sys.executable, "-m", "tfllm.serving.preview", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def banner_port(process):
    for line in process.stdout:
        if match := re.search(r"http://127.0.0.1:(\d+)/", line):
            return int(match[1])
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_told_to_stop_it_finishes_what_it_has_begun(bundles, number):
    write_sleeper(bundles / "sleeper/1")
    with start(bundles, "--rest-port", 0, "--grpc_port", 0) as process:
        port = banner_port(process)
        body = b'{"instances": [1.0]}'
        head = (
            "POST /v1/models/sleeper:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(head.encode())
            reply = connection.makefile("rb")
            assert reply.readline().startswith(b"HTTP/1.1 100 ")  # the request is under way
            process.send_signal(number)
            connection.sendall(body)
            assert b'"predictions": [1.0\n' in reply.read()
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert errors == ""


def test_told_twice_to_stop_it_ends_without_a_word(bundles):
    with start(bundles, "--rest-port", 0, "--grpc_port", 0) as process:
        port = banner_port(process)
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert connection.recv(99).startswith(b"HTTP/1.1 100 ")  # it never sends its body
            process.send_signal(signal.SIGINT)
            assert any("Ctrl-C again ends at once" in line for line in process.stdout)
            # What is said comes a moment before the signal's handler is let go of.
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
        assert (process.returncode, process.stderr.read()) == (-signal.SIGINT, "")


def test_the_banner_names_production_and_the_process_holds_no_tensorflow(bundles):
    code = """
import asyncio, sys
from pathlib import Path
from tfllm.serving.preview import PreviewSettings
from tfllm.serving.preview.serve import _banner
from tfllm.serving.preview.server import PreviewServer
async def main():
    settings = PreviewSettings(folder=Path(sys.argv[1]), rest_port=0, grpc_port=0)
    async with PreviewServer(settings) as server:
        print(_banner(settings, server))
asyncio.run(main())
print("tensorflow" in sys.modules, any("pywrap" in name for name in sys.modules))
"""
    card = bundles / "adder/README.md"
    card.touch()
    done = subprocess.run(
        [sys.executable, "-c", code, bundles], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "/v1/models/adder:predict\ngRPC " in done.stdout
    assert f"Requests to try: {card}\nCtrl-C" in done.stdout
    assert "production runs TensorFlow Serving" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"


def test_what_cant_be_served_is_said_in_one_line(tmp_path):
    process = start(tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith(f"error: {tmp_path} holds no bundle: give a folder")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: {"folder": folder / "missing"}, "can't read the folder of bundles"),
        (lambda folder: {}, "either a folder of bundles or --model_config_file"),
        (lambda folder: {"folder": folder, "workers": 0}, "--workers must be from 1 to 1024"),
        (lambda folder: {"folder": folder, "load_retries": -1}, "--load_retries must be at least"),
        (lambda folder: {"folder": folder, "workers": 10**8}, "--workers must be from 1 to 1024"),
        (lambda folder: {"folder": folder, "max_waiting": 0}, "--max_waiting must be at least 1"),
        (lambda folder: {"folder": folder, "poll_seconds": 1e-9}, "--poll_seconds must be from"),
        (lambda folder: {"folder": folder, "poll_seconds": float("nan")}, "--poll_seconds must be"),
        (lambda folder: {"folder": folder, "timeout_seconds": 1e300}, "timeout_seconds must be"),
        (lambda folder: {"folder": folder, "host": ""}, "--host must be an address"),
        (lambda folder: {"folder": folder, "host": "no host"}, "--host must be an address"),
        (lambda folder: {"folder": folder, "host": "é" * 99}, r"--host .* \(no name of a host\)"),
        (lambda folder: {"folder": folder, "host": "192.0.2.1"}, r"--host .* \(Cannot assign"),
        (lambda folder: {"folder": folder, "rest_port": 99999}, "--rest_port must be from 0, any"),
        (lambda folder: {"folder": folder, "grpc_port": -1}, "--grpc_port must be from 0, any"),
        (lambda folder: {"folder": folder, "max_request_bytes": -1}, "bytes must be from 1 to 2"),
        (lambda folder: {"folder": folder, "max_request_bytes": 2**31}, "bytes must be from 1"),
        (lambda folder: {"folder": folder, "shutdown_seconds": -1}, "seconds must be from 0 to"),
        (lambda folder: {"folder": folder, "timeout_seconds": float("nan")}, "must be from 0.001"),
        (lambda folder: {"folder": _broken(folder)}, "holds no saved_model.pb"),
        (lambda folder: {"folder": _broken(folder) / "broken/1"}, "holds no bundle"),
        (lambda folder: {"folder": _version(folder)}, r"x/7 is one version: give .*/x, which"),
        (lambda folder: _config(folder, "away"), "model 'm': .*/away can't be listed: No such"),
        (lambda folder: _config(folder, "file"), "model 'm': .*/file can't be listed: Not a dir"),
        (lambda folder: _config(folder, "none"), "model 'm': .*/none holds no version"),
        (lambda folder: _config(folder, "x"), "model 'm': .*/x doesn't hold .* specific: 8, 9"),
    ],
)
def test_what_is_refused_at_the_start(tmp_path, make, words):
    with pytest.raises(InputError, match=words), running_preview(**make(tmp_path)):
        pass


def _version(folder):
    (folder / "x/7").mkdir(parents=True)
    (folder / "x/7/saved_model.pb").touch()
    return folder / "x/7"


def _config(folder, base):
    _version(folder)
    (folder / "none").mkdir()
    (folder / "file").touch()
    model = f'name: "m" base_path: "{folder / base}" model_platform: "tensorflow"'
    policy = "model_version_policy { specific { versions: 9 versions: 8 } }"
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ config {{ {model} {policy} }} }}")
    return {"model_config_file": config}


def _broken(folder):
    (folder / "broken/1").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rest_port", "x"], "--rest-port: invalid int value: 'x'. See --help"),
        (["--nope", "1"], "unrecognized arguments: --nope"),
        ([], "give either a folder of bundles or --model_config_file"),
        (["{cut}"], "cut/1: "),
    ],
)
def test_the_command_says_mistakes_in_one_line(tmp_path, capsys, words, message):
    _write_cut(tmp_path / "cut/1")
    assert preview_command([word.format(cut=tmp_path / "cut") for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" or "can't load" in out
    assert err.startswith("error: ") and message in err
    assert err.count("\n") == 1 and "\t" not in err


def _write_cut(folder):
    """Write a model whose variables are gone; TensorFlow says so in several lines."""
    model = tf.Module()
    model.v = tf.Variable([1.0])
    work = tf.function(lambda x: {"y": x + model.v}, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(model, str(folder), signatures=work)
    next(folder.glob("variables/*.data*")).unlink()


def test_a_sender_who_hangs_up_or_speaks_no_http_fills_no_log(bundles, caplog):
    heads = ["GET / HTTP/1.1\r\na b: c\r\n\r\n", "CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n"]
    heads += [f"GET /{'x' * 100_000} HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\r\n\r\n"]
    heads += ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"]
    begun = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    with running_preview(folder=bundles) as server:
        for head in heads:
            with socket.create_connection(("127.0.0.1", server.rest_port), 30) as connection:
                connection.sendall(head.encode())
                assert b" 40" in connection.recv(13)
            with socket.create_connection(("127.0.0.1", server.rest_port), 30) as connection:
                connection.sendall(f"{begun}Expect: 100-continue\r\n\r\n".encode())
                assert connection.recv(99).startswith(b"HTTP/1.1 100 ")
                at_once = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        assert predict(server.rest_port, [[1.0, 2.0]]) == [[2.0, 3.0]]
    assert [record for record in caplog.records if "http" in record.name] == []


def test_a_defect_behind_http_is_logged(bundles, caplog, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(RestPath, "parse", fail)
    with running_preview(folder=bundles) as server:
        assert ask(server.rest_port, "POST", PREDICT, "{}")[0] == 500
    assert "ZeroDivisionError: ours" in caplog.text


def test_a_folder_that_vanishes_is_said_once(bundles, caplog):
    with running_preview(folder=bundles, poll_seconds=0.02) as server:
        looked = []
        look = server.catalog._configured

        def counted():
            looked.append(1)
            return look()

        server.catalog._configured = counted
        bundles.rename(bundles.with_name("elsewhere"))
        wait_for(lambda: len(looked) > 5)
        assert predict(server.rest_port, [[1.0, 2.0]]) == [[2.0, 3.0]]
        bundles.with_name("elsewhere").rename(bundles)
    said = [record.message for record in caplog.records if "can't" in record.message]
    assert len(said) == len(set(said)) <= 2


def test_a_taken_port_is_said(bundles):
    with running_preview(folder=bundles) as server:

        async def again(**ports):
            from tfllm.serving.preview.server import PreviewServer

            async with PreviewServer(PreviewSettings(folder=bundles, **ports)):
                pass

        for ports in (
            {"rest_port": server.rest_port, "grpc_port": 0},
            {"rest_port": 0, "grpc_port": server.grpc_port},
        ):
            with pytest.raises(InputError, match="can't listen on 127.0.0.1:.*choose another"):
                asyncio.run(again(**ports))


def test_a_long_request_and_a_long_reply(bundles):
    rows = [[float(i), -0.5] for i in range(20_000)]
    with running_preview(folder=bundles) as server:
        assert predict(server.rest_port, rows) == [[a + 1, b + 1] for a, b in rows]


def test_a_body_that_does_not_come_is_given_up(bundles):
    with running_preview(folder=bundles, timeout_seconds=0.2) as server:
        with socket.create_connection(("127.0.0.1", server.rest_port), 30) as connection:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{"
            connection.sendall(head.encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 504")


def test_versions_that_were_let_go_of_hold_no_memory(bundles):
    """TensorFlow keeps the memory of two versions for the next ones, and never more."""

    def own_megabytes(process):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024

    class Large(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.ones([4 * 2**20]))  # 16 MiB

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def serve(self, x):
            return {"y": x + tf.reduce_sum(self.weights)}

    model = Large()
    signatures = {"serving_default": model.serve}
    tf.saved_model.save(model, str(bundles / ".large"), signatures=signatures)
    with start(bundles, "--rest_port", 0, "--grpc_port", 0, "--poll_seconds", 0.02) as process:
        port = banner_port(process)
        sizes = []
        for number in range(2, 22):
            shutil.copytree(bundles / ".large", bundles / ".next", copy_function=os.link)
            os.rename(bundles / ".next", bundles / f"adder/{number}")
            wait_for(lambda n=number: states(port).get(n) == "AVAILABLE")
            wait_for(lambda n=number: states(port).get(n - 1, "END") == "END")
            shutil.rmtree(bundles / f"adder/{number - 1}")
            sizes.append(own_megabytes(process))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert sizes[-1] - sizes[4] < 16, sizes  # less than one version in fifteen swaps
