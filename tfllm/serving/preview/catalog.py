"""The models of a server: what is there, what is loaded, what comes and goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tfllm.errors import InputError
from tfllm.serving.errors import SessionError
from tfllm.serving.preview.model_version import ModelVersion
from tfllm.serving.preview.served_model import ServedModel
from tfllm.serving.session import versions

__all__ = ["Catalog"]

_log = logging.getLogger(__name__)


class Catalog:
    """Every version of every model, kept in step with the disk.

    A new version is loaded and warmed up whole before the one it replaces is let go of, and that
    one is freed when its last request has been answered. A version that failed to load is tried
    again after a while, a few times, and afresh when its folder has been away.
    """

    def __init__(
        self,
        configured: Callable[[], list[ServedModel]],
        *,
        load_retries: int = 5,
        load_retry_seconds: float = 60.0,
    ) -> None:
        """Hold nothing yet: `poll` loads.

        Args:
            configured: says which models to serve; asked at every poll.
            load_retries: further tries of a version that failed to load.
            load_retry_seconds: between two of them.
        """
        self._configured = configured
        self._load_retries = load_retries
        self._load_retry_seconds = load_retry_seconds
        # What was wrong at the last poll, and at this one: it is said once, not at every poll.
        self._said: set[str] = set()
        self._found_wrong: set[str] = set()
        self._models: dict[str, ServedModel] = {}
        self._versions: dict[str, dict[int, ModelVersion]] = {}
        # One at a time: each load needs the memory of a whole model.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._unloading: set[asyncio.Task[None]] = set()

    def find(self, name: str, number: int | None = None, label: str | None = None) -> ModelVersion:
        """Find a version that can answer: the newest, or the one asked for.

        Raises:
            SessionError: there is none, in TF Serving's words.
        """
        if not name:
            raise SessionError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if label is not None:
            number = self._labelled(name, label)
        loaded = {
            version.number: version
            for version in self._versions.get(name, {}).values()
            if version.state == "AVAILABLE"
        }
        if number is None and loaded:
            return loaded[max(loaded)]
        if number in loaded:
            return loaded[number]
        asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise SessionError("NOT_FOUND", f"Servable not found for request: {asked}")

    def _labelled(self, name: str, label: str) -> int:
        labels = self._models[name].labels if name in self._models else {}
        if label not in labels:
            message = f"Unrecognized servable version label: {label}"
            raise SessionError("INVALID_ARGUMENT", message)
        return labels[label]

    def states(self, name: str, number: int | None = None) -> list[ModelVersion]:
        """List a model's versions, newest first, those that ended too; or the one asked for.

        Raises:
            SessionError: there is none.
        """
        known = self._versions.get(name, {})
        if number is not None:
            if number not in known:
                message = f"Could not find version {number} of model {name}"
                raise SessionError("NOT_FOUND", message)
            return [known[number]]
        if not known:
            message = f"Could not find any versions of model {name}"
            raise SessionError("NOT_FOUND", message)
        return [known[number] for number in sorted(known, reverse=True)]

    def available(self) -> list[ModelVersion]:
        """List every version that can answer."""
        return [
            version
            for known in self._versions.values()
            for version in known.values()
            if version.state == "AVAILABLE"
        ]

    def failures(self) -> list[ModelVersion]:
        """List every version that could not be loaded."""
        return [
            version
            for known in self._versions.values()
            for version in known.values()
            if version.error is not None
        ]

    def absent(self) -> list[str]:
        """Say of each model of which there is no version why that is."""
        return [
            f"model {name!r}: {model.why_none()}"
            for name, model in sorted(self._models.items())
            if not self._versions.get(name)
        ]

    def serves(self, name: str) -> bool:
        """Say whether a name is a model's."""
        return name in self._models

    async def poll(self) -> None:
        """Look at the disk once: load what is new, then let go of what is no longer wanted."""
        self._configure()
        for name in sorted(self._versions.keys() | self._models.keys()):
            await self._poll_model(name)
        self._say_missing_labels()
        self._said, self._found_wrong = self._found_wrong, set()

    def _configure(self) -> None:
        """Ask which models to serve; where that is refused, those of the time before stay."""
        try:
            models = {model.name: model for model in self._configured()}
            self._check_labels(models)
        except InputError as error:
            self._warn(str(error))
            return
        self._models = models

    def _check_labels(self, models: Mapping[str, ServedModel]) -> None:
        """See that labels which move do so to versions that can answer, as TF Serving does.

        New ones may stand for any version, as with its
        `--allow_version_labels_for_unavailable_models`.
        """
        for name, model in models.items():
            before = self._models[name].labels if name in self._models else {}
            for label, number in sorted(model.labels.items()):
                if before.get(label, number) != number and not self._is_available(name, number):
                    raise InputError(
                        f"Request to assign label to version {number} of model {name}, which is "
                        f"not currently available for inference: {label!r} stays at version "
                        f"{before[label]} and the whole configuration as it was. First have the "
                        "version loaded, then move the label"
                    )

    def _say_missing_labels(self) -> None:
        for name, model in self._models.items():
            for label, number in sorted(model.labels.items()):
                if not self._is_available(name, number):
                    self._warn(f"label {label!r} of {name}: version {number} is not loaded")

    def _is_available(self, name: str, number: int) -> bool:
        version = self._versions.get(name, {}).get(number)
        return version is not None and version.state == "AVAILABLE"

    def _warn(self, message: str) -> None:
        self._found_wrong.add(message)
        if message not in self._said:
            _log.warning("%s", message)

    async def _poll_model(self, name: str) -> None:
        model = self._models.get(name)
        try:
            present = versions(model.base_path) if model else {}
        except OSError as error:
            self._warn(f"can't list the versions of {name}: {error}")
            return
        known = self._versions.setdefault(name, {})
        wanted = model.wanted(present) if model else []
        for number in wanted:
            if number not in known:
                known[number] = ModelVersion(name, number, present[number])
            if self._is_due(known[number]):
                await self._load(known[number])
        serving = [number for number in wanted if known[number].state == "AVAILABLE"]
        for number, version in list(known.items()):
            if version.state == "AVAILABLE" and number not in wanted and (serving or not wanted):
                self._unload(version)
            elif version.state == "END" and number not in present:
                del known[number]

    def _is_due(self, version: ModelVersion) -> bool:
        """Say whether a version that is wanted is to be loaded now."""
        if version.state != "END" or version.error is None:
            return version.state in ("START", "END")  # END: it was let go of, and is wanted again
        waited = time.monotonic() - version.failed_at
        return version.failures <= self._load_retries and waited >= self._load_retry_seconds

    async def _load(self, version: ModelVersion) -> None:
        version.state = "LOADING"
        place = f"version {version.number} of {version.name}"
        try:
            await asyncio.get_running_loop().run_in_executor(self._loader, version.load)
        except Exception as error:  # whatever a folder holds, the others go on serving
            if not isinstance(error, SessionError):
                error = SessionError("INTERNAL", f"{type(error).__name__}: {error}")
            version.fail(error)
            again = self._load_retries - version.failures + 1
            when = f"tried again in {self._load_retry_seconds:g} s" if again else "not tried again"
            _log.warning("can't load %s from %s (%s): %s", place, version.folder, when, error)
            return
        version.state, version.error, version.failures = "AVAILABLE", None, 0
        _log.info("serving %s from %s", place, version.folder)

    def _unload(self, version: ModelVersion) -> None:
        version.state = "UNLOADING"
        task = asyncio.get_running_loop().create_task(self._freed(version))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _freed(self, version: ModelVersion) -> None:
        await version.unload()
        version.state = "END"
        _log.info("let go of version %d of %s", version.number, version.name)

    async def close(self) -> None:
        """Let go of everything, once requests in flight have been answered."""
        for version in self.available():
            self._unload(version)
        if self._unloading:
            await asyncio.wait(self._unloading)
        self._loader.shutdown()
