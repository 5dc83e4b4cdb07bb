"""The one exception that a person can mend.

```
Exception
└── ValueError
    └── InputError     the message is for a person: one line, exit code 2, no traceback
```

Every room may raise it. Anything else that escapes is a defect of ours and keeps its traceback.
"""

__all__ = ["InputError"]


class InputError(ValueError):
    """What somebody gave can't be used: a file, a flag, a folder, a text.

    The message is one line that says what was wrong, what was received, where (file and line for
    data), and what to do about it.
    """
