"""Clients of TensorFlow Serving: REST, waiting or not, and gRPC.

`tfllm.serving` has `Client`, `AsyncClient` and `GrpcClient`, each imported when it is first asked
for. From a terminal:

    $ python -m tfllm.serving.client 127.0.0.1:8501 sst2 "a fine day"
"""

from tfllm.serving.client.errors import (
    NotServedError,
    RequestRefusedError,
    ServerBusyError,
    ServerFailedError,
    ServerTimeoutError,
    ServerUnreachableError,
    ServingError,
)
from tfllm.serving.client.version_status import VersionStatus

__all__ = [
    "NotServedError",
    "RequestRefusedError",
    "ServerBusyError",
    "ServerFailedError",
    "ServerTimeoutError",
    "ServerUnreachableError",
    "ServingError",
    "VersionStatus",
]
