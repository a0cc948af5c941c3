"""What keeps tests off the network: a namespace without one for programs, a guard for this process."""

from __future__ import annotations

import functools
import ipaddress
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

_PREFIX = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@functools.cache
def without_network() -> tuple[str, ...]:
    """What a command begins with to have no network but loopback; nothing where this system does not permit it."""
    try:
        permitted = subprocess.run([*_PREFIX, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        permitted = False
    return tuple(_PREFIX) if permitted else ()


@contextmanager
def on_this_machine() -> Iterator[list[str]]:
    """Inside, no socket of this process reaches another machine; what was asked for is in the list."""
    asked: list[str] = []
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def guarding(connecting: socket.socket, *arguments: Any) -> Any:
            address = arguments[-1]
            host = str(address[0]) if isinstance(address, tuple) else ""
            if host and host not in own and not _is_loopback(host):
                asked.append(host)
                raise OSError(f"no test may reach {host}")
            return method(connecting, *arguments)

        return guarding

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield asked


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
