"""What a preview server is told when it starts."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tfllm.errors import InputError

__all__ = ["PreviewSettings"]

_LARGEST_PORT = 65_535
_MOST_WORKERS = 1024  # threads
_LONGEST = 366 * 24 * 3600  # seconds
_SHORTEST_POLL = 0.01  # seconds: more often is a loop that only looks
_LARGEST_REQUEST = 2**31 - 1  # bytes of one gRPC message


@dataclasses.dataclass(frozen=True)
class PreviewSettings:
    """Where to listen, what to serve, and how much of it at a time.

    Attributes:
        folder: bundles: `savedmodels/`, or one of the bundles in it. None with a config file.
        model_config_file: TF Serving's `ModelServerConfig` as text, in place of `folder`.
        host: address to listen on. Whoever can reach it can use the models.
        rest_port: of REST; 0: any free one.
        grpc_port: of gRPC; 0: any free one.
        enable_cors: let web pages of other hosts call REST, as `--rest_api_enable_cors_support`.
        enable_metrics: serve request counts at `/monitoring/prometheus/metrics`.
        poll_seconds: between two looks for new versions.
        load_retries: further tries of a version that failed to load, as `--max_num_load_retries`.
        load_retry_seconds: between two of them, as `--load_retry_interval_micros`.
        timeout_seconds: a request takes at most; then 504.
        max_request_bytes: of one request, unpacked; then 413, or RESOURCE_EXHAUSTED.
        max_waiting: requests that may wait for a worker; the next one gets 503 at once.
        max_batch_rows: rows of different requests that are computed together; 1: none.
        workers: computations at a time.
        shutdown_seconds: requests in flight have to end when the server is stopped.
    """

    folder: Path | None = None
    model_config_file: Path | None = None
    host: str = "127.0.0.1"
    rest_port: int = 8501
    grpc_port: int = 8500
    enable_cors: bool = False
    enable_metrics: bool = False
    poll_seconds: float = 1.0
    load_retries: int = 5
    load_retry_seconds: float = 60.0
    timeout_seconds: float = 30.0
    max_request_bytes: int = 16 * 2**20
    max_waiting: int = 256
    max_batch_rows: int = 64
    workers: int = min(os.cpu_count() or 1, _MOST_WORKERS)
    shutdown_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what can't be served."""
        if (self.folder is None) == (self.model_config_file is None):
            raise InputError("give either a folder of bundles or --model_config_file, not both")
        self._check("host", bool(self.host), "an address, such as 127.0.0.1")
        self._check_within("timeout_seconds", 0.001, _LONGEST)
        self._check_within("poll_seconds", _SHORTEST_POLL, _LONGEST)
        self._check_within("workers", 1, _MOST_WORKERS)
        for name in ("load_retry_seconds", "shutdown_seconds"):
            self._check_within(name, 0, _LONGEST)
        for name in ("max_waiting", "max_batch_rows"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        self._check("load_retries", self.load_retries >= 0, "at least 0")
        for name in ("rest_port", "grpc_port"):
            known = 0 <= getattr(self, name) <= _LARGEST_PORT
            self._check(name, known, f"from 0, any free one, to {_LARGEST_PORT}")
        self._check_within("max_request_bytes", 1, _LARGEST_REQUEST)

    def _check_within(self, name: str, least: float, most: float) -> None:
        known = least <= getattr(self, name) <= most
        self._check(name, known, f"from {least} to {most}")

    def _check(self, name: str, usable: bool, wanted: str) -> None:
        if not usable:
            raise InputError(f"--{name} must be {wanted}. Received: {getattr(self, name)!r}")
