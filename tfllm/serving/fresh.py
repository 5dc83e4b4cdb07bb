"""Ask a bundle in a process of its own, where nothing of the exporting program is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfllm.serving.commands import request_body
from tfllm.serving.errors import SessionError

__all__ = ["predict_in_fresh_process"]


def predict_in_fresh_process(
    bundle: str | Path, instances: Sequence[Any], signature: str | None = None
) -> list[Any]:
    """Send rows to a signature of a bundle; give what REST would for each.

    Args:
        bundle: the bundle's folder, or one of its versions.
        instances: one request's rows: texts, or `{input: text}`.
        signature: which; None for the default one.

    Raises:
        SessionError: if the bundle can't be loaded or doesn't answer.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tfllm.serving.session", str(bundle)],
        input=request_body(instances, signature).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise SessionError("INTERNAL", done.stderr.decode(errors="replace").strip())
    return json.loads(done.stdout)["predictions"]
