"""Which of several workers this process is, by the variable that TensorFlow reads too."""

from __future__ import annotations

import json
import os

from tfllm.cli.common_config import CommonConfig
from tfllm.errors import InputError

__all__ = ["is_chief"]


def is_chief(config: CommonConfig) -> bool:
    """Tell whether this process writes what a run leaves: worker 0, or a process on its own.

    Args:
        config: with `--strategy one` or `mirrored`, `TF_CONFIG` is not looked at.

    Raises:
        InputError: if `TF_CONFIG` can't be read, or names workers and there is no `--run_dir`.
    """
    variable = os.environ.get("TF_CONFIG")
    if not variable or config.strategy not in ("auto", "multi_worker"):
        return True
    try:
        cluster, task = json.loads(variable)["cluster"], json.loads(variable)["task"]
        kind, index = task["type"], int(task["index"])
        known = kind in ("chief", "worker") and 0 <= index < len(cluster[kind])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"TF_CONFIG can't be read. {_expected(variable)}") from error
    if not known:
        raise InputError(f"TF_CONFIG gives this process no place. {_expected(variable)}")
    if config.run_dir is None:
        raise InputError(
            "the workers of one run need the same folder: give all of them the same --run_dir"
        )
    return kind == "chief" or (index == 0 and not cluster.get("chief"))


def _expected(received: str) -> str:
    return (
        f"Received: {received}. Give "
        '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": N}}'
    )
