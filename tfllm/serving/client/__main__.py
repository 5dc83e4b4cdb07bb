"""`python -m tfllm.serving.client 127.0.0.1:8501 sst2 "a fine day"`: ask a server something."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tfllm.errors import InputError
from tfllm.serving._command_line import OneLineParser, say_error
from tfllm.serving.client.errors import ServingError
from tfllm.serving.client.rest_client import Client

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m tfllm.serving.client",
        description="Ask a model on a TensorFlow Serving, over REST; one line of JSON per text.",
    )
    parser.add_argument("address", metavar="HOST:PORT", help="of the server's REST interface")
    parser.add_argument("model", metavar="MODEL", help="its name")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="one row each")
    parser.add_argument(
        "--json", action="store_true", help='the rows are JSON, such as \'{"question": "…"}\''
    )
    parser.add_argument("--signature", help="default: serving_default")
    parser.add_argument("--version", type=int, help="default: the newest")
    parser.add_argument("--label", help="of a version, in place of its number")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds (default 30)")
    return parser


def _rows(arguments: argparse.Namespace) -> list[Any]:
    if not arguments.json:
        return arguments.texts
    try:
        return [json.loads(text) for text in arguments.texts]
    except RecursionError as error:
        raise InputError("with --json a row may not be nested this deeply") from error
    except ValueError as error:
        raise InputError(f"with --json every row must be JSON: {error}") from error


def main(words: list[str]) -> int:
    """Ask; the exit code is 2 where that was refused."""
    try:
        arguments = _parser().parse_args(words)
        with Client(
            arguments.address, arguments.model, timeout=arguments.timeout, retries=0
        ) as client:
            predictions = client.predict(
                _rows(arguments),
                signature=arguments.signature,
                version=arguments.version,
                label=arguments.label,
            )
    except (InputError, ServingError) as error:
        return say_error(error)
    for prediction in predictions:
        text = json.dumps(prediction, ensure_ascii=False, default=lambda value: value.hex())
        sys.stdout.buffer.write(text.encode(errors="surrogateescape") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
