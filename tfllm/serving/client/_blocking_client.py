"""What the clients that wait for their answers have in common."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from tfllm.serving.client import _readiness
from tfllm.serving.client._rest_messages import delays
from tfllm.serving.client.errors import (
    NotServedError,
    ServerBusyError,
    ServerUnreachableError,
    ServingError,
)
from tfllm.serving.client.version_status import VersionStatus

__all__ = ["BlockingClient"]

_Reply = TypeVar("_Reply")


class BlockingClient(abc.ABC):
    """Tries requests again, waits until a model is ready, and closes what it leaves."""

    def __init__(self, retries: int) -> None:
        """Say how often a request is sent again."""
        self._retries = retries

    def wait_until_ready(self, timeout: float = 60.0, *, version: int | None = None) -> None:
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
                if _readiness.is_ready(self._status_once(version)):
                    return
            except (ServerUnreachableError, ServerBusyError, NotServedError) as error:
                last = error
            time.sleep(_readiness.POLL_SECONDS)
        raise _readiness.never_ready(timeout, last)

    @abc.abstractmethod
    def _status_once(self, version: int | None) -> list[VersionStatus]:
        """Ask for the versions' states, in one try."""

    def _retried(self, send: Callable[[], _Reply]) -> _Reply:
        """Send, and again after a while where the server is too busy or nobody listens."""
        for delay in delays(self._retries):
            try:
                return send()
            except (ServerBusyError, ServerUnreachableError):
                time.sleep(delay)
        return send()

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self:
        """Give the client itself; leaving closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()
