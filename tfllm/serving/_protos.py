"""TensorFlow Serving's official messages and gRPC services, without importing TensorFlow.

The generated modules import `tensorflow.core.….*_pb2`, and importing those imports all of
TensorFlow: six seconds, and Python's kernels in a process that should run like the server. While
they load, an empty package stands for `tensorflow` whose folder is the installed one's, so that
only the message modules are executed. Where TensorFlow is there already, they come as ever.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator

__all__ = [
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "meta_graph_pb2",
    "model_management_pb2",
    "model_pb2",
    "model_server_config_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_log_pb2",
    "prediction_service_pb2_grpc",
    "tensor_pb2",
]


@contextlib.contextmanager
def _messages_alone() -> Iterator[None]:
    if "tensorflow" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("TensorFlow Serving's messages need the package 'tensorflow'")
    stand_in = types.ModuleType("tensorflow")
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = stand_in
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with _messages_alone():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_log_pb2,
        prediction_service_pb2_grpc,
    )
    from tensorflow_serving.config import model_server_config_pb2
