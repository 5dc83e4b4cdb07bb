"""The REST client for programs that run an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import httpx

from tfllm.serving.client import _arguments, _batches, _readiness, _rest_messages
from tfllm.serving.client.errors import (
    NotServedError,
    ServerBusyError,
    ServerUnreachableError,
    ServingError,
)
from tfllm.serving.client.version_status import VersionStatus

__all__ = ["AsyncClient"]


class AsyncClient:
    """One model of one server, over REST: `Client` with every call to be awaited.

    Many requests may be under way at once.

    Proxies that the environment names are not used.

    Example:
        >>> async with AsyncClient("127.0.0.1:8501", "sst2") as client:
        ...     await client.predict(["a fine day"])
        [{'label': 'positive', 'scores': [0.02, 0.98]}]
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        max_batch_size: int | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            address: `HOST:PORT` of the server's REST interface, or a URL.
            model: the model's name.
            timeout: seconds that one try of a request may take.
            retries: further tries.
            max_batch_size: rows of one request; more are sent in several, one after another.

        Raises:
            InputError: the address is none, or a number can't be used.
        """
        self._server = _rest_messages.server_url(address)
        self._model = _arguments.text_name("a model's name", model)
        self._retries = _arguments.retry_count(retries)
        self._max_batch_size = _batches.batch_size(max_batch_size)
        # As many connections as requests: a limit would only make them wait for each other here.
        self._http = httpx.AsyncClient(
            timeout=_arguments.seconds(timeout),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=64),
        )

    async def predict(
        self,
        instances: Sequence[Any] | None = None,
        *,
        inputs: Any = None,
        signature: str | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> Any:
        """Ask the model.

        Args:
            instances: rows: bare values where the signature has one input, else `{input: value}`.
            inputs: columns instead: `{input: rows}`, or the rows of the only input.
            signature: its name; None: `serving_default`.
            version: which one; None: the newest.
            label: a version's label in place of its number.

        Returns:
            for rows a list, one entry per row: the value of the only output or `{output: value}`;
            for columns the rows of the only output or `{output: rows}`. Binary values are `bytes`.

        Raises:
            ServingError: there was no answer; its kinds say why.
            InputError: not exactly one of `instances` and `inputs`.
        """
        _rest_messages.want_one(instances, inputs)
        url = _rest_messages.model_url(self._server, self._model, version, label) + ":predict"
        if instances is not None:
            replies = [
                await self._post(url, "instances", rows, signature)
                for rows in _batches.row_batches(instances, self._max_batch_size)
            ]
            return [row for reply in replies for row in reply]
        return _batches.join_columns(
            [
                await self._post(url, "inputs", columns, signature)
                for columns in _batches.column_batches(inputs, self._max_batch_size)
            ]
        )

    async def metadata(
        self, *, version: int | None = None, label: str | None = None
    ) -> dict[str, Any]:
        """Give signature → `{"inputs": …, "outputs": …}`, as the server describes them.

        Raises:
            ServingError: there was no answer.
        """
        url = _rest_messages.model_url(self._server, self._model, version, label) + "/metadata"
        return _rest_messages.read_metadata(await self._send("GET", url))

    async def status(self, *, version: int | None = None) -> list[VersionStatus]:
        """List the versions that the server knows of, newest first, those that ended too.

        Raises:
            ServingError: there was no answer.
        """
        return _rest_messages.read_statuses(await self._send("GET", self._status_url(version)))

    def _status_url(self, version: int | None) -> str:
        return _rest_messages.model_url(self._server, self._model, version, None)

    async def wait_until_ready(self, timeout: float = 60.0, *, version: int | None = None) -> None:
        """Return as soon as the model, or that version of it, can answer.

        Args:
            timeout: seconds to wait at most, while nobody listens too.
            version: which one; None: any.

        Raises:
            ServerTimeoutError: it was not ready in time.
            ServerFailedError: it failed to load.
        """
        end = time.monotonic() + timeout
        last: ServingError | None = None
        while time.monotonic() < end:
            try:
                reply = await self._send_once("GET", self._status_url(version), None)
                if _readiness.is_ready(_rest_messages.read_statuses(reply)):
                    return
            except (ServerUnreachableError, ServerBusyError, NotServedError) as error:
                last = error
            await asyncio.sleep(_readiness.POLL_SECONDS)
        raise _readiness.never_ready(timeout, last)

    async def _post(self, url: str, key: str, value: Any, signature: str | None) -> Any:
        reply = await self._send("POST", url, _rest_messages.predict_body(key, value, signature))
        return _rest_messages.part_of(reply, _rest_messages.REPLY_KEYS[key])

    async def _send(self, method: str, url: str, body: bytes | None = None) -> Any:
        for delay in _rest_messages.delays(self._retries):
            try:
                return await self._send_once(method, url, body)
            except (ServerBusyError, ServerUnreachableError):
                await asyncio.sleep(delay)
        return await self._send_once(method, url, body)

    async def _send_once(self, method: str, url: str, body: bytes | None) -> Any:
        try:
            return _rest_messages.read_reply(await self._http.request(method, url, content=body))
        except httpx.RequestError as error:
            raise _rest_messages.connection_error(error, url) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        """Give the client itself; leaving closes it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()
