"""`python -m tfllm.serving.preview savedmodels/`: serve bundles on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

from tfllm.errors import InputError
from tfllm.serving._command_line import OneLineParser, say_error
from tfllm.serving.preview.serve import serve_preview
from tfllm.serving.preview.settings import PreviewSettings

__all__ = ["main"]

_HELP = {
    "model_config_file": "TF Serving's models.config, in place of the folder",
    "host": "address to listen on; whoever can reach it can use the models",
    "rest_port": "port of REST; 0: any free one",
    "grpc_port": "port of gRPC; 0: any free one",
    "enable_cors": "let web pages of other hosts call REST",
    "enable_metrics": "serve request counts at /monitoring/prometheus/metrics",
    "poll_seconds": "seconds between two looks for new versions",
    "load_retries": "further tries of a version that failed to load",
    "load_retry_seconds": "seconds between two of them",
    "timeout_seconds": "seconds that a request may take",
    "max_request_bytes": "bytes of one request",
    "max_waiting": "requests that may wait for a worker; the next one gets 503",
    "max_batch_rows": "rows of different requests computed together; 1: none",
    "workers": "computations at a time",
    "shutdown_seconds": "seconds that requests in flight have when the server is stopped",
}
_PATHS = ("model_config_file",)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m tfllm.serving.preview",
        description="Serve bundles on this machine through TensorFlow Serving's interfaces. "
        "For trying them out: production runs TensorFlow Serving.",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="savedmodels/, or one bundle in it")
    for field in dataclasses.fields(PreviewSettings):
        if field.name == "folder":
            continue
        flags = sorted({f"--{field.name}", f"--{field.name.replace('_', '-')}"}, reverse=True)
        if isinstance(field.default, bool):
            parser.add_argument(*flags, action="store_true", help=_HELP[field.name])
            continue
        kind = Path if field.name in _PATHS else type(field.default)
        note = "" if field.default is None else f" (default {field.default})"
        parser.add_argument(*flags, type=kind, default=field.default, help=_HELP[field.name] + note)
    return parser


def main(arguments: list[str]) -> int:
    """Serve until stopped; the exit code is 2 where nothing could be served."""
    try:
        settings = PreviewSettings(**vars(_parser().parse_args(arguments)))
        serve_preview(settings, functools.partial(print, flush=True))
    except InputError as error:
        return say_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
