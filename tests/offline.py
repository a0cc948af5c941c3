"""What keeps tests off the network: a namespace without one for programs, a guard for this process."""

from __future__ import annotations

import functools
import ipaddress
import subprocess
import sys
from typing import Any

import psutil

_PREFIX = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@functools.cache
def without_network() -> tuple[str, ...]:
    """What a command begins with to have no network but loopback; nothing where this system does not permit it."""
    try:
        permitted = subprocess.run([*_PREFIX, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        permitted = False
    return tuple(_PREFIX) if permitted else ()


def addresses_asked() -> list[str]:
    """From now on no socket of this process reaches another machine; what was asked for is added to the list."""
    asked: list[str] = []
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            host = str(arguments[1][0])
            if host not in own and not _is_loopback(host):
                asked.append(host)
                raise OSError(f"no test may reach {host}")

    sys.addaudithook(refuse)
    return asked


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
