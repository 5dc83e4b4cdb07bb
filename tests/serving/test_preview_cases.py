"""Every row of the table that was measured on TensorFlow Serving's own sources."""

import gzip
import json
import math
import re
import zlib
from pathlib import Path

import grpc
import numpy as np
import pytest
from running_preview import ask, running_preview
from stub_models import write_all

from tfllm.serving import SessionError, Signature, TensorSpec
from tfllm.serving._protos import predict_pb2, prediction_service_pb2_grpc, tensor_pb2
from tfllm.serving._tensor_protos import proto_of
from tfllm.serving.rest import read_inputs, read_json, reply_body

CASES = Path(__file__).parents[3] / "shared" / "docs" / "tfserving-rest-cases.jsonl"

# The preview answers predict, metadata and status; it takes no new configuration by gRPC.
DECLINED = ("rest.classify", "rest.regress", "classify_encode.", "grpc.reload")


def rows(prefix):
    if not CASES.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(f"no cases at {CASES}"))]
    cases = [json.loads(line) for line in CASES.read_bytes().splitlines()]
    return [
        pytest.param(case, id=case["name"])
        for case in cases
        if case["name"].startswith(prefix) and not case["name"].startswith(DECLINED)
    ]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def plain(config):
    with running_preview(model_config_file=config) as server:
        yield server


@pytest.fixture(scope="module")
def flagged(config):
    with running_preview(model_config_file=config, enable_cors=True, enable_metrics=True) as server:
        yield server


def described_body(text):
    """Make the bytes that a row describes in words."""
    inner = re.search(r"\{.*\}", text)[0].encode()
    if text.startswith("gzip"):
        return gzip.compress(inner)
    if text.startswith("zlib"):
        return zlib.compress(inner)
    if text.startswith("UTF-8 BOM"):
        return b"\xef\xbb\xbf" + inner
    if text.startswith("UTF-16"):
        return inner.decode().encode("utf-16")
    assert "<FF><FE>" in text
    return inner.replace(b"<FF><FE>", b"\xff\xfe")


def sent_body(request):
    if "body_desc" in request:
        return described_body(request["body_desc"])
    return request["body"].encode() if "body" in request else None


def check(case, body):
    """Compare a reply with a row as its `match` says."""
    wanted = case["expect_body_or_error"]
    text = body.decode(errors="backslashreplace")
    if case["match"] == "exact":
        assert text == wanted
    elif case["match"] == "json":
        assert json.loads(text) == wanted
    elif case["match"] == "contains":
        assert wanted in text
    else:
        assert case["match"] == "error_prefix"
        assert json.loads(text)["error"].startswith(wanted)


@pytest.mark.parametrize("case", rows("rest."))
def test_requests(case, plain, flagged):
    request = case["request"]
    is_flagged = "server_flags" in request or "monitoring" in case["signature_def"]
    server = flagged if is_flagged else plain
    headers = request.get("headers", {})
    status, received, body = ask(
        server.rest_port, request["method"], request["path"], sent_body(request), headers
    )
    assert status == case["expect_status"], body
    check(case, body)
    for name, value in case["expect_headers"].items():
        assert received.get(name) == value
    if not is_flagged:
        assert not any(name.startswith("Access-Control") for name in received)


def arrays_of(tensors):
    arrays = {}
    for name, tensor in tensors.items():
        values = tensor["values"]
        if tensor["dtype"] == "string":
            array = np.empty(len(values), object)
            array[:] = [value.encode() for value in values]
        elif tensor["dtype"].startswith("complex"):
            array = np.zeros(math.prod(tensor["shape"]), tensor["dtype"])
        else:
            array = np.array(values, tensor["dtype"])
        arrays[name] = array.reshape(tensor["shape"])
    return arrays


@pytest.mark.parametrize("case", rows("encode."))
def test_encoding(case):
    request = case["request"]
    arrays, in_rows = arrays_of(request["tensors"]), request["format"] == "row"
    if case["expect_status"] == "OK":
        assert json.loads(reply_body(arrays, in_rows)) == case["expect_body_or_error"]
        return
    with pytest.raises(SessionError) as caught:
        reply_body(arrays, in_rows)
    assert caught.value.code == case["expect_status"]
    assert caught.value.message == case["expect_body_or_error"]


def expanded(body):
    return re.sub(r'<(\d+) x "(.)">', lambda match: match[2] * int(match[1]), body)


@pytest.mark.parametrize("case", rows("decode."))
def test_decoding(case):
    request, wanted = case["request"], dict(case["expect_body_or_error"])
    specs = {name: TensorSpec("", dtype, None) for name, dtype in request["input_dtypes"].items()}
    signature = Signature(specs, {})
    body = expanded(request["body"]).encode()
    arrays, in_rows = read_inputs(read_json(body), {"serving_default": signature})
    assert in_rows == (wanted.pop("format") == "row")
    expected = arrays_of(wanted)
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tolist() == array.tolist()


def predict_request(**inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value)
    return request


def floats(*values):
    return proto_of(np.array(values, np.float32))


def strings(*values):
    return proto_of(np.array(values, object))


def unknown_model():
    request = predict_request(x=floats(1.0))
    request.model_spec.name = "foo"
    return request


def filtered(*names, **inputs):
    request = predict_request(**inputs)
    request.output_filter.extend(names)
    return request


def cut_off_tensor():
    proto = tensor_pb2.TensorProto(dtype=1, tensor_content=b"abc")
    proto.tensor_shape.dim.add(size=2)
    return proto


GRPC_REQUESTS = {
    "grpc.predict_no_model_spec": predict_pb2.PredictRequest,
    "grpc.predict_unknown_model": unknown_model,
    "grpc.predict_no_inputs": predict_request,
    "grpc.predict_extra_inputs": lambda: predict_request(
        unknown_key1=floats(1.0), unknown_key2=floats(1.0)
    ),
    "grpc.predict_wrong_name_same_count": lambda: predict_request(z=floats(1.0)),
    "grpc.predict_bad_tensorproto": lambda: predict_request(x=cut_off_tensor()),
    "grpc.predict_wrong_dtype": lambda: predict_request(x=proto_of(np.array(True))),
    "grpc.predict_wrong_dtype_string": lambda: filtered("y", x=strings(b"a")),
    "grpc.predict_duplicate_output_filter": lambda: filtered("y", "y", x=floats(1.0)),
    "grpc.long_error": lambda: filtered("n" * 2000, x=floats(1.0)),
}


@pytest.mark.parametrize("case", rows("grpc."))
def test_grpc(case, plain):
    with grpc.insecure_channel(f"127.0.0.1:{plain.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(GRPC_REQUESTS[case["name"]](), timeout=30)
    error = caught.value
    if case["match"] == "description":
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert len(error.details()) == 1024 + len("...TRUNCATED")
        assert error.details().endswith("n...TRUNCATED")
        return
    assert error.code().name == case["expect_status"]
    if case["match"] == "exact":
        assert error.details() == case["expect_body_or_error"]
    else:
        assert case["expect_body_or_error"] in error.details()
