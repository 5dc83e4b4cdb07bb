"""Requests that are small and ask for much."""

import asyncio
import gc
import json
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from running_preview import ask, running_preview
from stub_models import write_half_plus_two, write_model

from tfllm.serving._protos import predict_pb2, prediction_service_pb2_grpc, tensor_pb2
from tfllm.serving._tensor_protos import array_of, filled_bytes, proto_of
from tfllm.serving.preview.batcher import Batcher
from tfllm.serving.preview.model_version import ModelVersion
from tfllm.serving.preview.server import _closed

NUMBERS = [np.float32, np.float64, np.float16, np.bool_, np.int8, np.uint8, np.int16, np.uint16]
NUMBERS += [np.int32, np.uint32, np.int64, np.uint64]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_half_plus_two(folder / "half_plus_two/1")
    strings = {"s": (tf.string, [None])}
    write_model(folder / "echo/1", strings, lambda s: {"s": (tf.identity(s), [None])})
    with running_preview(folder=folder, max_request_bytes=2**20) as server:
        yield server


def shaped(dtype, *shape, **values):
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("model", "proto", "code", "words"),
    [
        ("half_plus_two", shaped(tf.float32, 2**45), "RESOURCE_EXHAUSTED", "shape of input"),
        ("half_plus_two", shaped(tf.float32, *[2] * 200), "RESOURCE_EXHAUSTED", "2..20|1048576"),
        ("half_plus_two", shaped(tf.float32, *[1] * 9999), "INVALID_ARGUMENT", "parsing error: x"),
        ("half_plus_two", shaped(tf.float32, *[1] * 99), "INVALID_ARGUMENT", "parsing error: x"),
        ("half_plus_two", shaped(tf.string, 10, 2), "INVALID_ARGUMENT", "but string is provided"),
        ("echo", shaped(tf.string, 10**8, 2), "RESOURCE_EXHAUSTED", "shape of input"),
        ("echo", shaped(tf.string, 99, string_val=[b"a" * 99_999]), "RESOURCE_EXHAUSTED", "shape"),
    ],
)
def test_a_shape_alone_takes_no_memory(server, model, proto, code, words):
    name = "s" if model == "echo" else "x"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest(inputs={name: proto})
        request.model_spec.name = model
        with pytest.raises(grpc.RpcError, match=words) as caught:
            stub.Predict(request, timeout=30)
        assert caught.value.code().name == code


def test_a_short_form_within_the_limit_is_filled(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].CopyFrom(shaped(tf.float32, 200_000, 1, float_val=[2.0, 4.0]))
        reply = array_of(stub.Predict(request, timeout=30).outputs["y"])
    assert reply.shape == (200_000, 1)
    assert (reply[0, 0], set(reply[1:, 0])) == (3.0, {4.0})


@given(st.sampled_from(NUMBERS), st.lists(st.booleans(), max_size=9), st.integers(0, 12))
def test_missing_values_are_the_last_one_and_counted(dtype, values, count):
    proto = proto_of(np.array(values, dtype))
    proto.tensor_shape.dim[0].size = count
    wanted = (values + (values[-1:] or [0]) * count)[:count]
    array = array_of(proto)
    assert (array.dtype, array.tolist()) == (dtype, np.array(wanted, dtype).tolist())
    assert filled_bytes(proto) == max(count - len(values), 0) * array.itemsize


@given(st.lists(st.binary(max_size=3), max_size=5), st.integers(0, 8))
def test_missing_strings_are_the_last_one_and_counted(values, count):
    proto = proto_of(np.array(values, object))
    proto.tensor_shape.dim[0].size = count
    last = values[-1] if values else b""
    assert array_of(proto).tolist() == (values + [last] * count)[:count]
    assert (filled_bytes(proto) > 0) == (count > len(values))


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float16, object])
def test_long_tensors_are_packed_and_unpacked_whole(dtype):
    numbers = np.arange(200_001) % 100
    texts = [b"%d" % number for number in numbers]
    array = np.array(texts, object) if dtype is object else numbers.astype(dtype)
    np.testing.assert_array_equal(array_of(proto_of(array)), array)


def test_half_val_beyond_sixteen_bits_is_cut_as_in_the_server():
    assert array_of(shaped(tf.float16, 1, half_val=[65536 + 15360])).tolist() == [1.0]


def test_versions_of_thousands_of_digits(server):
    path = "/v1/models/half_plus_two/versions/{}:predict"
    body = json.dumps({"instances": [[2.0]]})
    for digits in ("9" * 5000, "9" * 19, "9" * 20):
        assert ask(server.rest_port, "POST", path.format(digits), body)[::2] == (400, b"")
    assert ask(server.rest_port, "POST", path.format("0" * 5000 + "1"), body)[0] == 200
    for digits in ("0" * 5000, "9" * 18):
        assert ask(server.rest_port, "POST", path.format(digits), body)[0] == 404


def test_numbers_of_thousands_of_digits(server):
    for number in ("9" * 5000, "1e" + "9" * 5000):
        status, _, reply = ask(server.rest_port, "POST", "/v1/models/half_plus_two:predict", number)
        assert (status, b"Number too big to be stored in double." in reply) == (400, True)


class Scarce(ModelVersion):
    """Has not the memory for two rows at once."""

    def run(self, signature_name, inputs, outputs, timeout):
        if len(inputs["x"]) > 1:
            raise MemoryError
        return super().run(signature_name, inputs, outputs, timeout)


@pytest.fixture
def scarce(tmp_path):
    write_half_plus_two(tmp_path / "half_plus_two/1")
    version = Scarce("half_plus_two", 1, tmp_path / "half_plus_two/1")
    version.load()
    return version


def rows(value):
    return {"x": np.array([[value]], np.float32)}


def test_a_batch_that_fails_in_any_way_is_run_one_by_one(scarce):
    async def work():
        batcher = Batcher(workers=1, max_waiting=99, max_batch_rows=64)
        asked = [batcher.run(scarce, "serving_default", rows(value), 20) for value in range(9)]
        replies = await asyncio.gather(*asked)
        await batcher.close()
        await scarce.unload()
        return [reply["y"].item() for reply in replies]

    assert asyncio.run(work()) == [value / 2 + 2 for value in range(9)]


def test_workers_that_cant_work_leave_nobody_waiting(scarce):
    async def work():
        batcher = Batcher(workers=1, max_waiting=99, max_batch_rows=1)
        batcher._threads.shutdown()
        asked = [batcher.run(scarce, "serving_default", rows(value), 20) for value in range(3)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.close()
        await scarce.unload()
        return errors

    # Neither a time limit that was reached nor a queue that stands still.
    assert [str(error) for error in asyncio.run(work())] == [
        "cannot schedule new futures after shutdown"
    ] * 3


# In one of the turns Python itself drops the connection, and says so when it is collected.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("turns", range(8))
def test_stopping_waits_for_no_connection_that_asks_nothing(turns):
    """Whichever turn of the loop finds the connection half set up."""

    async def work():
        runner = web.AppRunner(web.Application(), shutdown_timeout=600.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with socket.create_connection(runner.addresses[0]):
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                await _closed(runner)
        await asyncio.sleep(0.01)  # asyncio closes what it was told to close

    asyncio.run(work())
    gc.collect()
