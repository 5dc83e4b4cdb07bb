"""Run a preview server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from tfllm.serving.preview.configuration import configured_models
from tfllm.serving.preview.settings import PreviewSettings

__all__ = ["serve_preview"]


def serve_preview(settings: PreviewSettings, say: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish the requests in flight and return.

    Args:
        settings: what to serve and where.
        say: takes the banner, and a line for each version that comes or goes.

    Raises:
        InputError: there is nothing to serve, or a port is taken.
    """
    configured_models(settings)  # before TensorFlow's library is loaded, which takes seconds
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow first logs
    # Imported here, after that: loading TensorFlow's library says a dozen lines.
    from tfllm.serving import _c_api

    _c_api.log_errors_only()
    handler = _Saying(say)
    logger = logging.getLogger("tfllm.serving.preview")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        asyncio.run(_serve(settings, say))
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


class _Saying(logging.Handler):
    """Log records as lines for a person."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(" ".join(record.getMessage().split()))


async def _serve(settings: PreviewSettings, say: Callable[[str], None]) -> None:
    from tfllm.serving.preview.server import PreviewServer

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with PreviewServer(settings) as server:
        say(_banner(settings, server.rest_port, server.grpc_port))
        await stop.wait()
        say("stopping: requests in flight are finished first")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)  # a second one ends the process at once


def _banner(settings: PreviewSettings, rest_port: int, grpc_port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return "\n".join(
        [
            "This is a preview, for trying bundles out: production runs TensorFlow Serving.",
            f"REST  http://{host}:{rest_port}/v1/models/NAME:predict",
            f"gRPC  {host}:{grpc_port}",
            "Ctrl-C stops it.",
        ]
    )
