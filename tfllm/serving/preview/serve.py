"""Run a preview server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfllm.serving.preview.configuration import configured_models
from tfllm.serving.preview.settings import PreviewSettings

if TYPE_CHECKING:
    from tfllm.serving.preview.server import PreviewServer

__all__ = ["serve_preview"]

_NAMED = 8  # models that the banner names, and no more


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
        say(_banner(settings, server))
        await stop.wait()
        say(
            "stopping: requests in flight are finished first, within "
            f"{settings.shutdown_seconds:g} s; Ctrl-C again ends at once"
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _banner(settings: PreviewSettings, server: PreviewServer) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    served = {version.name: version.folder.parent for version in server.catalog.available()}
    shown = list(served) if len(served) <= _NAMED else ["NAME"]
    cards = [folder / "README.md" for folder in served.values()]
    return "\n".join(
        [
            "This is a preview, for trying bundles out: production runs TensorFlow Serving.",
            *(f"REST  http://{host}:{server.rest_port}/v1/models/{name}:predict" for name in shown),
            f"gRPC  {host}:{server.grpc_port}",
            *(f"Requests to try: {card}" for card in cards[:_NAMED] if card.is_file()),
            "Ctrl-C stops it.",
        ]
    )
