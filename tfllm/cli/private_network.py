"""A network that only this process and those that it starts can reach."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

from tfllm.errors import InputError

__all__ = ["enter_private_network"]

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def enter_private_network() -> None:
    """Leave the machine's network for one that has nothing but a loopback device.

    TensorFlow's server listens on all addresses, without a password, and runs whatever graph it is
    sent; here nobody else can send any. Nor can anything be downloaded. Call it before any thread
    is started. Linux only.

    Raises:
        InputError: if the kernel doesn't allow it, as in many containers.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        if user == 0:
            _unshare(_CLONE_NEWNET)
        else:
            _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        _start_loopback()
    except (OSError, AttributeError) as error:
        raise InputError(
            f"this machine allows no private network for the workers ({error}). With --network "
            "host they use the machine's: anybody who can reach it can then send TensorFlow work"
        ) from error


def _unshare(what: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(what):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
