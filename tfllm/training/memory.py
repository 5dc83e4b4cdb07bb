"""How much memory this process holds."""

from __future__ import annotations

import resource
from pathlib import Path

import tensorflow as tf

__all__ = ["memory_bytes", "peak_memory_bytes"]


def memory_bytes() -> int:
    """Bytes on all GPUs now, or where there is none the resident bytes of the process."""
    devices = _gpus()
    if devices:
        return sum(tf.config.experimental.get_memory_info(name)["current"] for name in devices)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_memory_bytes() -> int:
    """Most bytes so far, counted like `memory_bytes`."""
    devices = _gpus()
    if devices:
        return sum(tf.config.experimental.get_memory_info(name)["peak"] for name in devices)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpus() -> list[str]:
    found = tf.config.list_logical_devices("GPU")
    return [device.name.removeprefix("/device:") for device in found]
