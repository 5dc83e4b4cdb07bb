"""What a model's session refuses.

```
Exception
└── RuntimeError
    └── SessionError    TensorFlow (or the request's check before it) said no: a code and a message
```
"""

from __future__ import annotations

__all__ = ["SessionError"]


class SessionError(RuntimeError):
    """A bundle could not be loaded, or a request could not be answered.

    Attributes:
        code: TensorFlow's name for what happened, as TF Serving maps it to an HTTP status:
            `"INVALID_ARGUMENT"`, `"NOT_FOUND"`, `"INTERNAL"` and so on.
        message: what TensorFlow said.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep what TensorFlow said; the text is `CODE: message`."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
