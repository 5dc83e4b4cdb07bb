"""The exceptions that end a run in good order.

```
Exception
├── ValueError
│   └── InputError     what somebody gave can't be used: one line, exit code 2, no traceback
└── Interrupted        a signal stopped training, which has saved: exit code 130 or 143
```

Every room may raise them. Anything else that escapes is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import signal

__all__ = ["InputError", "Interrupted"]


class InputError(ValueError):
    """What somebody gave can't be used: a file, a flag, a folder, a text.

    The message is one line that says what was wrong, what was received, where (file and line for
    data), and what to do about it.
    """


class Interrupted(Exception):
    """A signal stopped training, and a checkpoint was written.

    Attributes:
        signal_number: `signal.SIGINT` or `signal.SIGTERM`.
    """

    def __init__(self, signal_number: int) -> None:
        """Remember the signal."""
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number
