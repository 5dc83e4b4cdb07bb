"""The preview server: both interfaces in front of one set of models, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from types import TracebackType
from typing import Any

from aiohttp import web

from tfllm.errors import InputError
from tfllm.serving.preview.batcher import Batcher
from tfllm.serving.preview.catalog import Catalog
from tfllm.serving.preview.configuration import configured_models
from tfllm.serving.preview.predictor import Predictor
from tfllm.serving.preview.rest_front import RestFront
from tfllm.serving.preview.settings import PreviewSettings

__all__ = ["PreviewServer"]

_TURNS = 10
_REASONS = 3  # why nothing can be served, and no more


class PreviewServer:
    """TensorFlow Serving's interfaces on this machine, for trying bundles out.

    Models run through `tfllm.serving.Session`, so that what fails here fails in the server. Ports
    open once every model has been tried and at least one can answer.

    Example:
        >>> async with PreviewServer(PreviewSettings(folder=Path("savedmodels"))) as server:
        ...     print(server.rest_port)
    """

    def __init__(self, settings: PreviewSettings) -> None:
        """Prepare; entering the context starts."""
        self._settings = settings
        self.catalog = Catalog(
            functools.partial(configured_models, settings),
            load_retries=settings.load_retries,
            load_retry_seconds=settings.load_retry_seconds,
        )
        self._stack = contextlib.AsyncExitStack()
        self.rest_port = settings.rest_port
        self.grpc_port = settings.grpc_port

    async def __aenter__(self) -> PreviewServer:
        """Load the models and open the ports.

        Raises:
            InputError: there is nothing to serve, or a port is taken.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more requests, finish those in flight, free the models."""
        await self._stack.aclose()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        stack.push_async_callback(self.catalog.close)
        _check_host(settings.host)
        configured_models(settings)  # what it refuses ends the start; later it is only logged
        await self.catalog.poll()
        self._check_loaded()
        batcher = Batcher(settings.workers, settings.max_waiting, settings.max_batch_rows)
        stack.push_async_callback(batcher.close)
        predictor = Predictor(self.catalog, batcher, settings.timeout_seconds)
        await self._open_rest(RestFront(predictor, settings).runner(), stack)
        await self._open_grpc(predictor, stack)
        polling = asyncio.get_running_loop().create_task(self._poll())
        stack.push_async_callback(_cancelled, polling)

    def _check_loaded(self) -> None:
        if self.catalog.available():
            return
        failed = [f"{version.folder}: {version.error}" for version in self.catalog.failures()]
        reasons = [*failed, *self.catalog.absent()]
        left = len(reasons) - _REASONS
        more = f"; and {left} more" if left > 0 else ""
        raise InputError(f"no model can be served; {'; '.join(reasons[:_REASONS])}{more}")

    async def _open_rest(self, runner: web.AppRunner, stack: contextlib.AsyncExitStack) -> None:
        await runner.setup()
        stack.push_async_callback(_closed, runner)
        try:
            site = web.TCPSite(runner, self._settings.host, self._settings.rest_port)
            await site.start()
        except OSError as error:
            raise self._taken("--rest_port", self._settings.rest_port, error) from error
        self.rest_port = runner.addresses[0][1]

    async def _open_grpc(self, predictor: Predictor, stack: contextlib.AsyncExitStack) -> None:
        # Imported here: gRPC and TensorFlow's messages take a moment.
        from tfllm.serving.preview.grpc_front import grpc_server

        host, port = self._settings.host, self._settings.grpc_port
        _check_free(host, port, self._taken)
        server: Any = grpc_server(predictor, self._settings)
        self.grpc_port = server.add_insecure_port(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        )
        await server.start()
        stack.push_async_callback(server.stop, self._settings.shutdown_seconds)

    def _taken(self, flag: str, port: int, error: OSError) -> InputError:
        reason = error.strerror or str(error)
        place = f"{self._settings.host}:{port}"
        return InputError(f"can't listen on {place} ({reason}): choose another {flag}, 0 is any")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            await self.catalog.poll()


def _check_host(host: str) -> None:
    """Try an address before models are loaded.

    Raises:
        InputError: nobody can listen there, on whatever port.
    """
    try:
        _bind(host, 0)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a host"
        wanted = "an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
        raise InputError(f"--host must be {wanted} ({reason}). Received: {host!r}") from error


def _check_free(host: str, port: int, taken: Any) -> None:
    """Try a port before gRPC does, which would log a page."""
    try:
        _bind(host, port)
    except OSError as error:
        raise taken("--grpc_port", port, error) from error


def _bind(host: str, port: int) -> None:
    host.encode("idna")  # or what is no name at all would be a TypeError below
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


async def _closed(runner: web.AppRunner) -> None:
    """Take no more connections, answer the requests that have come, close."""
    for site in list(runner.sites):
        await site.stop()
    # A connection that has just been accepted is set up over a few turns of the loop. aiohttp
    # would wait all of its time for one that is caught in the middle of that.
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    await runner.cleanup()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
