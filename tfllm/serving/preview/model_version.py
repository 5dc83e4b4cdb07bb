"""One version of a model in a server, from its loading to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.errors import InputError
from tfllm.serving.errors import SessionError
from tfllm.serving.preview.warmup import warm_up
from tfllm.serving.session import Session
from tfllm.serving.signature import Signature

__all__ = ["ModelVersion"]


class ModelVersion:
    """A version's state, its session while it has one, and who is using it.

    Attributes:
        name: the model's.
        number: the version's.
        folder: where it lies.
        state: `"START"`, `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"`, `"END"`, as TF Serving says.
        error: why it ended, where that was a failure.
        failures: how often it failed to load.
        failed_at: when it last did, on the clock of `time.monotonic`.
    """

    def __init__(self, name: str, number: int, folder: Path) -> None:
        """Name a version; nothing is loaded."""
        self.name = name
        self.number = number
        self.folder = folder
        self.state = "START"
        self.error: SessionError | None = None
        self.failures = 0
        self.failed_at = 0.0
        self._session: Session | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Name → what it takes and gives."""
        return self._loaded().signatures

    def signature_protos(self) -> dict[str, bytes]:
        """Name → serialized `SignatureDef`."""
        return self._loaded().signature_protos()

    def load(self) -> None:
        """Load and warm up. It takes as long as it takes: call it in a thread."""
        try:
            session = Session(self.folder)
        except InputError as error:
            raise SessionError("NOT_FOUND", str(error)) from error
        try:
            warm_up(session, self.folder)
        except BaseException:
            session.close()
            raise
        self._session = session

    def fail(self, error: SessionError) -> None:
        """Note that loading failed."""
        self.state, self.error = "END", error
        self.failures += 1
        self.failed_at = time.monotonic()

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the version loaded for the time of a request."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        outputs: tuple[str, ...],
        timeout: float,
    ) -> dict[str, np.ndarray]:
        """Answer one request, in a thread. Whoever calls holds a lease."""
        return self._loaded().run(signature_name, inputs, outputs=outputs, timeout=timeout)

    async def unload(self) -> None:
        """Wait until nobody uses the version, then free it."""
        await self._unused.wait()
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.close)

    def _loaded(self) -> Session:
        if self._session is None:
            raise SessionError("CANCELLED", f"version {self.number} of {self.name} is not loaded")
        return self._session
