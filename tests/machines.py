"""Machines of tests: network namespaces with an address each, on one switch, whose cables can be cut. Linux, as root.

Namespaces have no names: each lives as long as this process has it open or a program runs in it, so nothing is left, however this
process ends. Programs get SIGTERM when it does.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h
_PREFIX = "10.213"
_PROBE = (
    "ip link add name switch type bridge && ip link add name m0 type veth peer name eth0"
    " && ip link set dev m0 master switch"
)


class Machine:
    """A machine with one cable.

    Attributes:
        address: Of it, IPv4.
        namespace: Path of its network namespace, for as long as this process lives.
    """

    def __init__(self, network, number):
        self._network = network
        self._port = f"m{number}"
        self.address = f"{_PREFIX}.{number // 250}.{number % 250 + 1}"
        self._descriptor = _new_network()
        self.namespace = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        network.run(f"ip link add name {self._port} type veth peer name eth0 netns {self.namespace}")
        network.run(f"ip link set dev {self._port} master switch up")
        self.run(
            f"ip addr add {self.address}/16 dev eth0", "ip link set dev lo up", "ip link set dev eth0 up"
        )
        # Programs learn the address of their machine from the route that they would take to others.
        self.run("ip route add default dev eth0")

    def command(self, *words):
        """A command that runs `words` on this machine, with SIGTERM when this process ends."""
        return ["nsenter", f"--net={self.namespace}", "setpriv", "--pdeathsig", "TERM", *map(str, words)]

    def run(self, *lines):
        """Do lines of a shell on this machine."""
        _shell(self.namespace, lines)

    def cut(self):
        """Pull the cable: nothing passes, and nothing is refused."""
        self._network.run(f"ip link set dev {self._port} down")

    def mend(self):
        """Put it back: connections of before go on, unless an end has given them up."""
        self._network.run(f"ip link set dev {self._port} up")

    @contextmanager
    def entered(self):
        """Sockets that this thread opens in the block are this machine's; so are those of threads that it starts there."""
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net") as before:
            _enter(self._descriptor)
            try:
                yield
            finally:
                _enter(before.fileno())

    def close(self):
        """Take it away, once nothing runs there any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Network:
    """A switch, and the machines on it. A context manager."""

    def __init__(self):
        self._descriptor = _new_network()
        self._namespace = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self._machines = []
        self.run("ip link add name switch type bridge", "ip link set switch up")

    def run(self, *lines):
        _shell(self._namespace, lines)

    def machine(self):
        """Add a machine."""
        self._machines.append(Machine(self, len(self._machines)))
        return self._machines[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for machine in self._machines:
            machine.close()
        os.close(self._descriptor)


@contextmanager
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


def enter(namespace: str) -> None:
    """Make this thread, and what it starts, one of a machine's."""
    with open(namespace) as opened:
        _enter(opened.fileno())


def _new_network() -> int:
    """A descriptor of a new network namespace, which nothing runs in."""
    own = f"/proc/self/task/{threading.get_native_id()}/ns/net"
    before = os.open(own, os.O_RDONLY)
    try:
        _call("unshare", _NEW_NETWORK)
        try:
            return os.open(own, os.O_RDONLY)
        finally:
            _enter(before)
    finally:
        os.close(before)


def _enter(descriptor: int) -> None:
    _call("setns", descriptor, _NEW_NETWORK)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _shell(namespace: str, lines: tuple[str, ...]) -> None:
    command = ["nsenter", f"--net={namespace}", "sh", "-ec", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{lines}: {done.stderr}"


@cache
def _impossible() -> str:
    """Why there can be no machines here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces with cables need Linux and root"
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-ec", _PROBE], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"no network namespaces: {error}"
    return f"no network namespaces: {done.stderr.strip()}" if done.returncode else ""


POSSIBLE = pytest.mark.skipif(_impossible() != "", reason=_impossible() or "-")

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
FAKETIME_INSTALLED = pytest.mark.skipif(
    FAKETIME is None, reason="faketime is not installed; apt-get install faketime"
)


def wall_clock(seconds: float) -> dict[str, str]:
    """Environment of a program whose wall clock is some seconds ahead; its monotonic clocks and dates of files are not."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{seconds:+g}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
