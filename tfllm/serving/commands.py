"""The command lines that serve a bundle and ask it something, ready to be pasted."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["curl_line", "docker_run_line", "preview_line", "request_body", "tensorboard_line"]

_IMAGE = "tensorflow/serving:2.20.0"
_GRPC_PORT = 8500
_REST_PORT = 8501


def tensorboard_line(folder: str | Path) -> str:
    """Write the command that opens TensorBoard on a run's event files, with this Python."""
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(Path(folder).absolute())]
    return shlex.join(words)


def docker_run_line(bundle: str | Path) -> str:
    """Write the `docker run` that serves a bundle, reachable from this machine only.

    Args:
        bundle: the bundle's folder, `savedmodels/NAME`, or one of its versions. The server watches
            the folder, so that the next export is taken up without a restart.
    """
    folder = _bundle_folder(bundle)
    mount = ",".join(
        ["type=bind", _csv(f"source={folder}"), f"target=/models/{folder.name}", "readonly"]
    )
    words = ["docker", "run", "--rm"]
    for port in (_GRPC_PORT, _REST_PORT):
        words += ["--publish", f"127.0.0.1:{port}:{port}"]
    words += ["--mount", mount, "--env", f"MODEL_NAME={folder.name}", _IMAGE]
    return shlex.join(words)


def preview_line(bundle: str | Path) -> str:
    """Write the command that serves a bundle without Docker, with this Python, for a try.

    Args:
        bundle: as `docker_run_line` takes it.
    """
    return shlex.join([sys.executable, "-m", "tfllm.serving.preview", str(_bundle_folder(bundle))])


def _bundle_folder(bundle: str | Path) -> Path:
    folder = Path(bundle).absolute()
    return folder.parent if folder.name.isdecimal() else folder


def curl_line(name: str, instances: Sequence[Any]) -> str:
    """Write the `curl` that asks a served bundle's default signature for its answers.

    Args:
        name: the bundle's name, which the server knows it by.
        instances: one request's rows: texts, or `{input: text}` where there are several inputs.
    """
    url = f"http://127.0.0.1:{_REST_PORT}/v1/models/{name}:predict"
    return f"curl {shlex.quote(url)} --data {shlex.quote(request_body(instances))}"


def request_body(instances: Sequence[Any], signature: str | None = None) -> str:
    r"""Write the REST request's JSON: `{"instances": ["a fine day"]}`; None: the default signature.

    Letters stay readable in every script; where a text holds something that a terminal would act
    on, all of it is written in `\u` escapes.
    """
    named = {} if signature is None else {"signature_name": signature}
    body = named | {"instances": list(instances)}
    text = json.dumps(body, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(body)


def _csv(field: str) -> str:
    """Quote a field of `--mount`, which docker reads as a line of CSV."""
    if not any(character in field for character in ',"\n'):
        return field
    return '"' + field.replace('"', '""') + '"'
