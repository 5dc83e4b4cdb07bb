r"""Train with several workers on this machine: start them, watch them, start them again.

    python recipes/launch_workers.py --workers 2 -- \
        recipes/pretrain_causal_lm.py --train 'books/*.txt' --run_dir runs/books

All workers train one model on their share of each batch; the first one writes. When one dies, all
are ended and started again, and go on from the last checkpoint. Ctrl-C ends all of them after the
step that runs, saves, and the same command goes on. On several machines, set TF_CONFIG on each and
start the recipe itself with --strategy multi_worker and a --run_dir that all of them share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from tfllm import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of the launcher; those of the recipe follow behind --."""

    workers: int = 2
    """Processes that train together. Each gets the same number of GPUs, if there are any."""
    max_restarts: int = 3
    """How often all workers are started again when one has died."""
    hang_seconds: float = 600.0
    """Seconds without a line of output or use of a core, after which workers hang; 0: never."""
    grace_seconds: float = 120.0
    """Seconds that workers may take to save and end after Ctrl-C or SIGTERM."""
    network: Literal["private", "host"] = "private"
    """private: nobody but the workers can reach their ports, and they can't download; host: the
    machine's network, on all of whose addresses TensorFlow then listens without a password."""


def main(config: Config, command: Sequence[str]) -> int:
    """Start workers until they are done."""
    cli.require(config.workers >= 1, "workers", config.workers, "must be at least 1")
    for name in ("max_restarts", "hang_seconds", "grace_seconds"):
        value = getattr(config, name)
        cli.require(value >= 0, name, value, "must not be negative")
    launcher = cli.Launcher(
        command,
        workers=config.workers,
        max_restarts=config.max_restarts,
        hang_seconds=config.hang_seconds,
        grace_seconds=config.grace_seconds,
    )
    if config.network == "private":
        cli.enter_private_network()
    return launcher.run()


if __name__ == "__main__":
    cli.launch(Config, main, __file__)
