"""When a model is ready, given what its server says of it."""

from __future__ import annotations

from collections.abc import Sequence

from tfllm.serving.client.errors import ServerFailedError, ServerTimeoutError, ServingError
from tfllm.serving.client.version_status import VersionStatus

__all__ = ["POLL_SECONDS", "is_ready", "never_ready"]

POLL_SECONDS = 0.2


def is_ready(statuses: Sequence[VersionStatus]) -> bool:
    """Say whether one of the versions can answer.

    Raises:
        ServerFailedError: none can and none will: each ended with an error.
    """
    if any(status.state == "AVAILABLE" for status in statuses):
        return True
    broken = [status for status in statuses if status.state == "END" and status.code != "OK"]
    if statuses and len(broken) == len(statuses):
        raise ServerFailedError(broken[0].code, broken[0].message)
    return False


def never_ready(seconds: float, last: ServingError | None) -> ServerTimeoutError:
    """Say that the wait is over, and what was heard last."""
    heard = f"; the last try: {last}" if last else ""
    return ServerTimeoutError("DEADLINE_EXCEEDED", f"not ready within {seconds:g} seconds{heard}")
