"""Why a bundle was not published.

```
Exception
├── ValueError
│   └── InputError      a person can mend it: a bad name, a full disk, an unwritable folder
└── RuntimeError
    └── ExportError     the gate refused the model: it would fail, or differ, in the server
```
"""

from __future__ import annotations

__all__ = ["ExportError"]


class ExportError(RuntimeError):
    """The gate refused a bundle; nothing was published.

    Attributes:
        check: `"tracking"`, `"stale"`, `"asset"`, `"load"`, `"graph"`, `"signature"`, `"answers"`,
            `"neighbours"`, `"state"` or `"crash"`.
        signature: the signature it happened in; empty where it belongs to none.
        request: the inputs it happened on, shortened; empty where it belongs to none.
    """

    def __init__(self, check: str, message: str, signature: str = "", request: str = "") -> None:
        """Compose one line of what was refused, and where."""
        where = f", signature {signature!r}" if signature else ""
        given = f", given {request}" if request else ""
        super().__init__(f"export refused ({check}{where}{given}): {message}")
        self.check = check
        self.signature = signature
        self.request = request
        self.message = message
