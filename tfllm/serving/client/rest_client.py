"""A client of TensorFlow Serving's REST interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from tfllm.serving.client import _arguments, _batches, _rest_messages
from tfllm.serving.client._blocking_client import BlockingClient
from tfllm.serving.client.version_status import VersionStatus

__all__ = ["Client"]


class Client(BlockingClient):
    """One model of one server, over REST.

    It may be used by several threads. A request that the server is too busy for, or that finds
    nobody listening, is sent again after a while that doubles each time.

    Proxies that the environment names are not used.

    Example:
        >>> with Client("127.0.0.1:8501", "sst2") as client:
        ...     client.predict(["a fine day"])
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
        super().__init__(_arguments.retry_count(retries))
        self._server = _rest_messages.server_url(address)
        self._model = _arguments.text_name("a model's name", model)
        self._max_batch_size = _batches.batch_size(max_batch_size)
        self._http = httpx.Client(timeout=_arguments.seconds(timeout), trust_env=False)

    def predict(
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
                self._post(url, "instances", rows, signature)
                for rows in _batches.row_batches(instances, self._max_batch_size)
            ]
            return [row for reply in replies for row in reply]
        return _batches.join_columns(
            [
                self._post(url, "inputs", columns, signature)
                for columns in _batches.column_batches(inputs, self._max_batch_size)
            ]
        )

    def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Give signature → `{"inputs": …, "outputs": …}`, as the server describes them.

        Raises:
            ServingError: there was no answer.
        """
        url = _rest_messages.model_url(self._server, self._model, version, label) + "/metadata"
        return _rest_messages.read_metadata(self._send("GET", url))

    def status(self, *, version: int | None = None) -> list[VersionStatus]:
        """List the versions that the server knows of, newest first, those that ended too.

        Raises:
            ServingError: there was no answer.
        """
        return _rest_messages.read_statuses(self._send("GET", self._status_url(version)))

    def _status_url(self, version: int | None) -> str:
        return _rest_messages.model_url(self._server, self._model, version, None)

    def _post(self, url: str, key: str, value: Any, signature: str | None) -> Any:
        reply = self._send("POST", url, _rest_messages.predict_body(key, value, signature))
        return _rest_messages.part_of(reply, _rest_messages.REPLY_KEYS[key])

    def _status_once(self, version: int | None) -> list[VersionStatus]:
        reply = self._send_once("GET", self._status_url(version), None)
        return _rest_messages.read_statuses(reply)

    def _send(self, method: str, url: str, body: bytes | None = None) -> Any:
        return self._retried(lambda: self._send_once(method, url, body))

    def _send_once(self, method: str, url: str, body: bytes | None) -> Any:
        try:
            return _rest_messages.read_reply(self._http.request(method, url, content=body))
        except httpx.RequestError as error:
            raise _rest_messages.connection_error(error, url) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
