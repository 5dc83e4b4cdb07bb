"""How one version of a model is doing, as the server says."""

from __future__ import annotations

import dataclasses

__all__ = ["VersionStatus"]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """A version and its state.

    Attributes:
        version: its number.
        state: `"START"`, `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"` or `"END"`.
        code: `"OK"`, or why it ended.
        message: the server's words for that.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""
