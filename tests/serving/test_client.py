import asyncio
import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from running_preview import running_preview
from stub_models import write_config, write_half_plus_two, write_model

from tfllm.errors import InputError
from tfllm.serving import (
    AsyncClient,
    Client,
    GrpcClient,
    NotServedError,
    RequestRefusedError,
    ServerBusyError,
    ServerFailedError,
    ServerTimeoutError,
    ServerUnreachableError,
    VersionStatus,
)
from tfllm.serving._protos import tensor_pb2
from tfllm.serving.client.__main__ import main
from tfllm.serving.client._batches import join_arrays
from tfllm.serving.preview.predictor import Predictor

ROOT = Path(__file__).parents[2]
TEXTS = ["a", "", "今天🙂", 'q"\\\n\x00', "x" * 3000]


def write_several(folder):
    """Write a model of two inputs and two outputs."""
    inputs = {"s": (tf.string, [None]), "x": (tf.int32, [None, None])}

    def work(s, x):
        return {"s_bytes": (tf.identity(s), [None]), "sum": (tf.reduce_sum(x, 1), [None])}

    write_model(folder, inputs, work)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_half_plus_two(folder / "half_plus_two/123")
    write_several(folder / "several/1")
    strings = {"s": (tf.string, [None])}
    write_model(folder / "echo/2", strings, lambda s: {"s": (tf.identity(s), [None])})
    # Larger than gRPC's usual limit of 4 MB.
    grow = {"n": (tf.int32, [None])}
    write_model(folder / "large/1", grow, lambda n: {"y": (tf.ones([n[0], 1024]), [None, 1024])})
    with running_preview(model_config_file=write_config(folder)) as server:
        yield server


@pytest.fixture
def rest(server):
    def make(model, **settings):
        return Client(f"127.0.0.1:{server.rest_port}", model, **settings)

    return make


@pytest.fixture
def by_grpc(server):
    def make(model, **settings):
        return GrpcClient(f"127.0.0.1:{server.grpc_port}", model, **settings)

    return make


def test_rows_and_columns(rest):
    with rest("echo") as client:
        assert client.predict(TEXTS) == TEXTS
        assert client.predict([{"s": text} for text in TEXTS]) == TEXTS
        assert client.predict(inputs=TEXTS) == TEXTS
        assert client.predict(inputs={"s": TEXTS}) == TEXTS
        assert client.predict([b"a", b"caf\xc3\xa9"]) == ["a", "café"]
    with rest("several") as client:
        rows = [{"s": "a", "x": [1, 2]}, {"s": b"\xff\x00", "x": np.array([3, 4])}]
        assert client.predict(rows) == [
            {"s_bytes": b"a", "sum": 3},
            {"s_bytes": b"\xff\x00", "sum": 7},
        ]
        columns = {"s": ["a", "b"], "x": np.array([[1, 2], [3, 4]])}
        assert client.predict(inputs=columns) == {"s_bytes": [b"a", b"b"], "sum": [3, 7]}


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_batches_are_split_and_joined_in_order(rest, by_grpc, size):
    texts = [f"text {i}" for i in range(7)]
    with rest("echo", max_batch_size=size) as client:
        assert client.predict(texts) == texts
        assert client.predict(inputs=texts) == texts
    columns = {"s": texts, "x": [[i, 1] for i in range(7)]}
    with rest("several", max_batch_size=size) as client:
        reply = client.predict(inputs=columns)
        assert reply["sum"] == list(range(1, 8))
        assert reply["s_bytes"] == [text.encode() for text in texts]
    with by_grpc("several", max_batch_size=size) as client:
        reply = client.predict(columns)
        assert reply["sum"].tolist() == list(range(1, 8))
        assert reply["s_bytes"].tolist() == [text.encode() for text in texts]


def test_versions_labels_metadata_and_status(rest):
    with rest("half_plus_two") as client:
        for chosen in ({}, {"version": 123}, {"label": "stable"}, {"signature": "serving_default"}):
            assert client.predict([[2.0]], **chosen) == [[3.0]]
        assert client.metadata()["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
        assert client.status() == [VersionStatus(123, "AVAILABLE")]
        client.wait_until_ready(5)
        client.wait_until_ready(5, version=123)
        with pytest.raises(InputError, match="a version or a label"):
            client.predict([[2.0]], version=123, label="stable")
        with pytest.raises(InputError, match="either instances .* or inputs"):
            client.predict([[2.0]], inputs=[[2.0]])


def test_what_the_server_says_becomes_an_exception(rest, by_grpc):
    with rest("half_plus_two") as client:
        with pytest.raises(RequestRefusedError, match="INVALID_ARGUMENT: .* expected type: float"):
            client.predict(["a"])
        with pytest.raises(NotServedError, match=r"Specific\(half_plus_two, 9\)"):
            client.predict([[1.0]], version=9)
        with pytest.raises(NotServedError, match="Could not find version 9"):
            client.status(version=9)
    with by_grpc("half_plus_two") as client:
        with pytest.raises(RequestRefusedError, match="FAILED_PRECONDITION: .* not found"):
            client.predict({"x": np.zeros([1, 1], np.float32)}, signature="nope")
        with pytest.raises(RequestRefusedError, match="expects float32"):
            client.predict({"x": ["a"]})
        with pytest.raises(NotServedError, match=r"Specific\(half_plus_two, 9\)"):
            client.predict({"x": [[1.0]]}, version=9)
    with rest("nobody") as client, pytest.raises(ServerTimeoutError, match="nobody"):
        client.wait_until_ready(0.5)


def test_the_waiting_client_and_the_other_agree(server):
    async def ask():
        async with AsyncClient(
            f"http://127.0.0.1:{server.rest_port}/", "echo", max_batch_size=2
        ) as client:
            await client.wait_until_ready(5)
            asked = [client.predict([f"{i} a", f"{i} b", f"{i} c"]) for i in range(30)]
            replies = await asyncio.gather(*asked)
            assert replies == [[f"{i} a", f"{i} b", f"{i} c"] for i in range(30)]
            assert await client.predict(inputs={"s": TEXTS}) == TEXTS
            assert (await client.metadata(version=2))["serving_default"]["inputs"]["s"]
            assert await client.status() == [VersionStatus(2, "AVAILABLE")]
            with pytest.raises(RequestRefusedError):
                await client.predict([1])

    asyncio.run(ask())


def test_grpc_takes_lists_and_arrays_and_gives_arrays(by_grpc):
    with by_grpc("several") as client:
        client.wait_until_ready(5)
        wanted = {"s_bytes": [b"a", "今".encode()], "sum": [3, 7]}
        for x in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int32)):
            for s in (["a", "今"], np.array(["a", "今"]), np.array([b"a", "今".encode()], object)):
                reply = client.predict({"s": s, "x": x})
                assert {name: array.tolist() for name, array in reply.items()} == wanted
        assert list(client.predict({"s": ["a"], "x": [[1]]}, outputs=["sum"])) == ["sum"]
        assert client.status() == [VersionStatus(1, "AVAILABLE")]
    with by_grpc("half_plus_two") as client:
        assert client.predict({"x": [[2.0]]}, label="stable")["y"].tolist() == [[3.0]]


def test_grpc_asks_for_the_dtypes_of_lists_once(by_grpc, monkeypatch):
    asked = []
    metadata = Predictor.metadata

    def counted(self, *arguments):
        asked.append(arguments)
        return metadata(self, *arguments)

    monkeypatch.setattr(Predictor, "metadata", counted)
    with by_grpc("several") as client:
        for _ in range(3):
            assert client.predict({"s": ["a"], "x": [[1, 2]]})["sum"].tolist() == [3]
        assert asked == [("several", None, None)]
        client.predict({"s": ["a"], "x": [[1, 2]]}, version=1)
        assert asked[1:] == [("several", 1, None)]


def test_grpc_notices_that_another_version_takes_other_lists(tmp_path):
    def write(number, dtype):
        inputs = {"x": (dtype, [None])}
        write_model(tmp_path / f".{number}", inputs, lambda x: {"y": (tf.identity(x), [None])})
        (tmp_path / f".{number}").rename(tmp_path / f"echo/{number}")

    (tmp_path / "echo").mkdir()
    write(1, tf.int32)
    with running_preview(folder=tmp_path, poll_seconds=0.02) as server:
        with GrpcClient(f"127.0.0.1:{server.grpc_port}", "echo") as client:
            assert client.predict({"x": [1, 2]})["y"].dtype == np.int32
            with pytest.raises(RequestRefusedError, match="expects int32"):
                client.predict({"x": ["a"]})
            for number, dtype, value in ((2, tf.int64, 7), (3, tf.string, b"a")):
                write(number, dtype)
                client.wait_until_ready(30, version=number)
                assert client.predict({"x": [value]})["y"].tolist() == [value]


def test_answers_larger_than_grpcs_own_limit(by_grpc):
    with by_grpc("large") as client:
        assert client.predict({"n": [2000]})["y"].shape == (2000, 1024)


class Moody(http.server.BaseHTTPRequestHandler):
    """Answers as it is told to, one status after another."""

    statuses: list[int] = []
    asked = 0

    def do_POST(self):  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        Moody.asked += 1
        status = Moody.statuses.pop(0)
        body = b'{"predictions": ["done"]}' if status == 200 else b'{"error": "not now"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def moody():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        Moody.asked = 0
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("statuses", "retries", "kind", "asked"),
    [
        ([503, 429, 200], 2, None, 3),
        ([503, 503], 1, ServerBusyError, 2),
        ([503], 0, ServerBusyError, 1),
        ([500], 5, ServerFailedError, 1),
        ([400], 5, RequestRefusedError, 1),
        ([504], 5, ServerTimeoutError, 1),
    ],
)
def test_only_a_busy_server_is_asked_again(moody, statuses, retries, kind, asked):
    Moody.statuses = statuses
    with Client(moody, "any", retries=retries) as client:
        if kind is None:
            assert client.predict(["a"]) == ["done"]
        else:
            with pytest.raises(kind, match="not now") as caught:
                client.predict(["a"])
            assert type(caught.value) is kind
    assert Moody.asked == asked


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("kind", [Client, GrpcClient])
def test_nobody_there(kind):
    with kind(f"127.0.0.1:{free_port()}", "any", retries=1) as client:
        with pytest.raises(ServerUnreachableError):
            client.predict({"s": np.array([b"a"], object)}) if kind is GrpcClient else (
                client.predict(["a"])
            )
        with pytest.raises(ServerTimeoutError, match="not ready within"):
            client.wait_until_ready(0.3)


def test_a_server_that_starts_later_is_waited_for(tmp_path):
    write_half_plus_two(tmp_path / "half_plus_two/1")
    port = free_port()
    replies = []

    def ask():
        with Client(f"127.0.0.1:{port}", "half_plus_two") as client:
            client.wait_until_ready(30)
            replies.append(client.predict([[2.0]]))

    asking = threading.Thread(target=ask)
    asking.start()
    with running_preview(folder=tmp_path, rest_port=port):
        asking.join()
    assert replies == [[[3.0]]]


def test_a_silent_server_is_given_up(moody):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Client(f"127.0.0.1:{silent.getsockname()[1]}", "any", timeout=0.2) as client:
            with pytest.raises(ServerTimeoutError):
                client.predict(["a"])


@pytest.mark.parametrize("kind", [Client, AsyncClient, GrpcClient])
@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_no_row(kind, size):
    with pytest.raises(InputError, match=f"max_batch_size must be at least 1.* {size}$"):
        kind("127.0.0.1:1", "any", max_batch_size=size)


ADDRESSES = [
    "",
    "http://",
    "ftp://a:1",
    "a:b",
    "a:0",
    "http://[::1",
    "a:80\n",
    "☃..:80",
    None,
    8501,
]
ADDRESSES += [f"{'x' * 300}:80", "a b:80", "a:80?b", "http://a:99999", "\udcff:80"]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_are_none(kind, address):
    with pytest.raises(InputError, match="^a server's address is HOST:PORT or a URL. Received: "):
        kind(address, "any")


@pytest.mark.parametrize(
    "address", ["", "a", ":80", "a:", "a:b", "a:0", "http://a:1", "a:80\n", None]
)
def test_grpc_addresses_that_are_none(address):
    with pytest.raises(InputError, match="gRPC address is HOST:PORT. Received: "):
        GrpcClient(address, "any")


@pytest.mark.parametrize(
    "address", ["[::1]:80", "1.2.3.4:80", "a-b.c:65535", "http://a", "https://é:1/x/"]
)
def test_addresses_that_are_some(address):
    Client(address, "any").close()


@pytest.mark.parametrize("kind", [Client, AsyncClient, GrpcClient])
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        *[("timeout", value, "timeout must be seconds") for value in (0, -1, 1e300, None, "3")],
        *[("timeout", float(value), "timeout must be seconds") for value in ("nan", "inf")],
        *[("retries", value, "retries must be a whole number") for value in (-1, 1.5, None)],
        ("max_batch_size", "3", "max_batch_size must be at least 1.* '3'$"),
        *[("model", value, "a model's name must be text") for value in ("", None, 3)],
        ("model", "\udcff", r"a model's name must be Unicode text. Received: '\\udcff'"),
    ],
)
def test_settings_that_are_none(kind, setting, value, words):
    with pytest.raises(InputError, match=words):
        kind("127.0.0.1:1", **({"model": "any"} | {setting: value}))


VERSIONS = [
    ({"version": "x/../.."}, "a version is a whole number"),
    ({"version": -1}, "a version is a whole number"),
    ({"version": 2**63}, "a version is a whole number"),
    ({"version": True}, "a version is a whole number"),
    ({"label": 3}, "a version's label must be text"),
    ({"label": "\ud800"}, "a version's label must be Unicode"),
    ({"version": 1, "label": "a"}, "give a version or a label, not both"),
    ({"signature": 3}, "signature must be text"),
]


@pytest.mark.parametrize(("chosen", "words"), VERSIONS)
def test_versions_that_are_none(rest, by_grpc, chosen, words):
    with rest("echo") as client, pytest.raises(InputError, match=words):
        client.predict(["a"], **chosen)
    with by_grpc("echo") as client, pytest.raises(InputError, match=words):
        client.predict({"s": ["a"]}, **chosen)


def deep(levels):
    rows = []
    for _ in range(levels):
        rows = [rows]
    return rows


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"instances": 5}, "instances must be a list of rows. Received: int"),
        ({"instances": "text"}, "instances must be a list of rows. Received: str"),
        ({"instances": {"s": "a"}}, "instances must be a list of rows. Received: dict"),
        ({"instances": iter(["a"])}, "instances must be a list of rows"),
        ({"instances": [{"a", "b"}]}, "instances may hold .* set is not JSON"),
        ({"inputs": {"s": [None, object()]}}, "inputs may hold .* object is not JSON"),
        ({"instances": deep(5000)}, "instances are nested too deeply"),
    ],
)
def test_rows_that_cant_be_sent(rest, asked, words):
    for size in (None, 2):
        with rest("echo", max_batch_size=size) as client, pytest.raises(InputError, match=words):
            client.predict(**asked)


def test_inputs_that_grpc_cant_send(by_grpc):
    with by_grpc("echo") as client:
        with pytest.raises(InputError, match="inputs must be {input: rows}. Received: list"):
            client.predict(["a"])
        with pytest.raises(InputError, match="an input's name must be text"):
            client.predict({3: ["a"]})
        for outputs in ("s", [3]):
            with pytest.raises(InputError, match="output.* must be"):
                client.predict({"s": ["a"]}, outputs=outputs)
        for value in (np.array([3, None], object), np.array(["\ud800"], object), ["\ud800"]):
            with pytest.raises(RequestRefusedError, match='input "s" expects string'):
                client.predict({"s": value})
        with pytest.raises(RequestRefusedError, match='input "s": can\'t send .* complex64'):
            client.predict({"s": np.zeros(1, np.complex64)})


def test_grpc_never_sends_again_what_will_never_fit(by_grpc, monkeypatch):
    waited = []
    monkeypatch.setattr("tfllm.serving.client._blocking_client.time.sleep", waited.append)
    with by_grpc("echo") as client:
        with pytest.raises(RequestRefusedError, match="larger than max"):
            client.predict({"s": np.array([b"x" * 20_000_000], object)})
    # The last row stands for all that the shape asks for beyond it.
    short = tensor_pb2.TensorProto(dtype=7, string_val=[b"a"])
    short.tensor_shape.dim.add(size=10**9)
    monkeypatch.setattr("tfllm.serving.client.grpc_client.proto_of", lambda _: short)
    with by_grpc("echo") as client:
        with pytest.raises(RequestRefusedError, match="asks for more than"):
            client.predict({"s": np.array([b"a"], object)})
    assert waited == []


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers every request with what is no reply of a TensorFlow Serving."""

    headers_sent: dict[str, str] = {}
    body = b""

    def do_POST(self):  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        for name, value in Odd.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(Odd.body)))
        self.end_headers()
        self.wfile.write(Odd.body)

    def do_GET(self):  # noqa: N802
        self.headers["Content-Length"] = "0"
        self.do_POST()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def odd():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("headers", "body", "kind", "words"),
    [
        ({}, b"<html>", ServerFailedError, "the reply is no JSON: '<html>'"),
        ({}, b"[" * 5000, ServerFailedError, "the reply is no JSON"),
        ({}, b'{"predictions": [{"b64": "a"}]}', ServerFailedError, "the reply is no JSON"),
        ({}, b"[]", ServerFailedError, 'the reply has no "predictions"'),
        ({}, b'{"outputs": 1}', ServerFailedError, 'the reply has no "predictions"'),
        ({"Content-Encoding": "gzip"}, b"no gzip", ServerFailedError, "header check"),
    ],
)
def test_replies_of_other_servers(odd, headers, body, kind, words):
    Odd.headers_sent, Odd.body = headers, body
    with Client(odd, "any") as client, pytest.raises(kind, match=words):
        client.predict(["a"])


def test_descriptions_of_other_servers(odd):
    Odd.headers_sent, Odd.body = {}, b'{"metadata": []}'
    with Client(odd, "any") as client:
        with pytest.raises(ServerFailedError, match='the reply has no "signature_def"'):
            client.metadata()
        with pytest.raises(ServerFailedError, match='the reply has no "model_version_status"'):
            client.status()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeout", "x"], "argument --timeout: invalid float value: 'x'. See --help"),
        ([], "the following arguments are required: HOST:PORT, MODEL, TEXT"),
        (["a:1", "m", "t", "--timeout", "nan"], "timeout must be seconds"),
        (["a:1", "\udcff", "t"], "a model's name must be Unicode text"),
        (["a:1", "m", "--json", "[" * 50_000], "a row may not be nested this deeply"),
        (["a:1", "m", "--json", "9" * 5000], "every row must be JSON: Exceeds the limit"),
        (["http://[::1", "m", "t"], "a server's address is HOST:PORT"),
    ],
)
def test_the_command_says_mistakes_in_one_line(capsys, words, message):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def run(*arguments):
    command = [sys.executable, "-m", "tfllm.serving.client", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False)


def test_the_command_prints_one_answer_a_line(server):
    address = f"127.0.0.1:{server.rest_port}"
    done = run(address, "several", "--json", '{"s": "今", "x": [1]}', '{"s": "b", "x": [2]}')
    assert done.stderr == b""
    assert [json.loads(line)["sum"] for line in done.stdout.splitlines()] == [1, 2]
    done = run(address, "nobody", "a")
    assert done.returncode == 2
    assert done.stderr == b"error: NOT_FOUND: Servable not found for request: Latest(nobody)\n"


def test_arrays_of_different_widths_are_not_joined():
    one, two = np.zeros([2, 3]), np.zeros([1, 3])
    assert join_arrays("ids", [one, two]).shape == (3, 3)
    with pytest.raises(InputError, match=r"'ids' has another width .*: \(3,\), \(4,\)\. Ask"):
        join_arrays("ids", [one, np.zeros([1, 4])])
