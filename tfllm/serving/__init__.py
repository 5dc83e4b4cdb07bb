"""Run an exported bundle and say how to serve it, without importing TensorFlow.

A name is imported when it is first asked for, so `import tfllm.serving` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.serving._c_api import log_errors_only
    from tfllm.serving.client.async_client import AsyncClient
    from tfllm.serving.client.errors import (
        NotServedError,
        RequestRefusedError,
        ServerBusyError,
        ServerFailedError,
        ServerTimeoutError,
        ServerUnreachableError,
        ServingError,
    )
    from tfllm.serving.client.grpc_client import GrpcClient
    from tfllm.serving.client.rest_client import Client
    from tfllm.serving.client.version_status import VersionStatus
    from tfllm.serving.commands import (
        curl_line,
        docker_run_line,
        preview_line,
        request_body,
        tensorboard_line,
    )
    from tfllm.serving.errors import SessionError
    from tfllm.serving.fresh import predict_in_fresh_process
    from tfllm.serving.preview import PreviewSettings, serve_preview
    from tfllm.serving.rest import answer
    from tfllm.serving.session import Session, newest_version
    from tfllm.serving.showcase import (
        answers_text,
        completions_text,
        next_commands_text,
        serve_commands_text,
        trial_text,
    )
    from tfllm.serving.signature import Signature, TensorSpec

__all__ = [
    "AsyncClient",
    "Client",
    "GrpcClient",
    "NotServedError",
    "PreviewSettings",
    "RequestRefusedError",
    "ServerBusyError",
    "ServerFailedError",
    "ServerTimeoutError",
    "ServerUnreachableError",
    "ServingError",
    "Session",
    "SessionError",
    "Signature",
    "TensorSpec",
    "VersionStatus",
    "answer",
    "answers_text",
    "completions_text",
    "curl_line",
    "docker_run_line",
    "log_errors_only",
    "newest_version",
    "next_commands_text",
    "predict_in_fresh_process",
    "preview_line",
    "request_body",
    "serve_commands_text",
    "serve_preview",
    "tensorboard_line",
    "trial_text",
]

_HOMES = {
    "AsyncClient": "client.async_client",
    "Client": "client.rest_client",
    "GrpcClient": "client.grpc_client",
    "NotServedError": "client.errors",
    "PreviewSettings": "preview",
    "RequestRefusedError": "client.errors",
    "ServerBusyError": "client.errors",
    "ServerFailedError": "client.errors",
    "ServerTimeoutError": "client.errors",
    "ServerUnreachableError": "client.errors",
    "ServingError": "client.errors",
    "Session": "session",
    "SessionError": "errors",
    "Signature": "signature",
    "TensorSpec": "signature",
    "VersionStatus": "client.version_status",
    "answer": "rest",
    "answers_text": "showcase",
    "completions_text": "showcase",
    "curl_line": "commands",
    "docker_run_line": "commands",
    "log_errors_only": "_c_api",
    "newest_version": "session",
    "next_commands_text": "showcase",
    "predict_in_fresh_process": "fresh",
    "preview_line": "commands",
    "request_body": "commands",
    "serve_commands_text": "showcase",
    "serve_preview": "preview",
    "tensorboard_line": "commands",
    "trial_text": "showcase",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
