"""How much memory a process of this machine may still take."""

from __future__ import annotations

from pathlib import Path

from tfllm.errors import InputError

__all__ = ["free_memory"]


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that are free: the machine's, or its container's where that has less.

    Args:
        root: of the file system, where `proc` and `sys` are.

    Raises:
        InputError: if the system does not say.
    """
    found = [_of_machine(root), _of_cgroup_2(root), _of_cgroup_1(root)]
    known = [size for size in found if size is not None]
    if not known:
        raise InputError("this system does not say how much memory is free. Give --memory_gib")
    return max(0, min(known))


def _of_machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, size = line.partition(":")
        if name == "MemAvailable":
            return int(size.split()[0]) * 1024
    return None


def _of_cgroup_2(root: Path) -> int | None:
    folder = root / "sys/fs/cgroup"
    return _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat")


def _of_cgroup_1(root: Path) -> int | None:
    folder = root / "sys/fs/cgroup/memory"
    return _left(
        folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", folder / "memory.stat"
    )


def _left(limit: Path, used: Path, statistics: Path) -> int | None:
    """The limit less what is used; the cache of files makes room when it is asked to."""
    most, taken = _text(limit).strip(), _text(used).strip()
    if not most.isdecimal() or not taken.isdecimal():
        return None  # "max", or no such file
    lines = (line.split() for line in _text(statistics).splitlines())
    found = {words[0]: int(words[1]) for words in lines if len(words) == 2}
    cache = found.get("total_inactive_file", found.get("inactive_file", 0))
    return int(most) - int(taken) + cache


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
