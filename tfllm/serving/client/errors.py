"""What a client meets.

```
Exception
└── RuntimeError
    └── ServingError              a request got no answer: a code and a message
        ├── RequestRefusedError   the request doesn't fit the model (400)
        │   └── NotServedError    no such model, version or path (404)
        ├── ServerBusyError       still too busy after all retries (429, 503)
        ├── ServerTimeoutError    no answer in time (504, or the client's own limit)
        ├── ServerUnreachableError    nobody listens there, or the connection broke
        └── ServerFailedError     anything else that went wrong in the server (5xx)
```
"""

from __future__ import annotations

__all__ = [
    "NotServedError",
    "RequestRefusedError",
    "ServerBusyError",
    "ServerFailedError",
    "ServerTimeoutError",
    "ServerUnreachableError",
    "ServingError",
]


class ServingError(RuntimeError):
    """A request got no answer.

    Attributes:
        code: TensorFlow's name for what happened: `"INVALID_ARGUMENT"`, `"NOT_FOUND"` …
        message: what the server, or the connection, said.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep what was said; the text is `CODE: message`."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class RequestRefusedError(ServingError):
    """The request doesn't fit the model: sending it again won't help."""


class NotServedError(RequestRefusedError):
    """No such model, version or path is served there."""


class ServerBusyError(ServingError):
    """The server turned the request away, and did so again at every retry."""


class ServerTimeoutError(ServingError):
    """There was no answer in time."""


class ServerUnreachableError(ServingError):
    """Nobody listens at the address, or the connection broke."""


class ServerFailedError(ServingError):
    """Something went wrong in the server."""
