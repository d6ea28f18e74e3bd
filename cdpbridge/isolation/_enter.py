"""Entering a place: the mounts, the network and the user of a process that has just been forked into namespaces of its own."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

from ._kernel import (
    MOUNT_NODEV,
    MOUNT_NOEXEC,
    MOUNT_NOSUID,
    MOUNT_RDONLY,
    attach_mount,
    clone_mount,
    make_mounts_private,
    mount_new,
    restrict_mount,
    set_dumpable,
    switch_root,
)
from ._links import address_message, error_of, messages
from ._plan import PROXY_PORT, Mount, Plan

__all__ = [
    "HOST_NAME",
    "become",
    "connect_pages",
    "listen",
    "make_root",
    "map_users",
    "start_loopback",
    "switch_user",
]

HOST_NAME: Final = "isolated"
"""Of every place. Chromium writes it into the lock of its profile, where it says that the process number beside it is no number of
the machine."""

# Any folder of the machine: it is covered in our namespace only, and after all copies of mounts are at hand.
_STAGES: Final = ("/tmp", "/run", "/var", "/usr")  # noqa: S108  # nothing is written there
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_BACKLOG: Final = 1024  # Chromium opens many connections before the forwarder is there to take them


def become(uid: int, gid: int) -> None:
    """Be `uid` in the new user namespace, where only it exists."""
    # Its files in /proc belong to the effective user only while it may be dumped.
    set_dumpable(allowed=True)
    _map("self", f"{uid} {uid} 1", f"{gid} {gid} 1")
    switch_user(uid, gid)


def map_users(pid: int, uid: int, gid: int) -> None:
    """Let root and `uid` exist in the new user namespace of a process; for a root process of the namespace above."""
    _map(str(pid), f"0 0 1\n{uid} {uid} 1", f"0 0 1\n{gid} {gid} 1")


def switch_user(uid: int, gid: int) -> None:
    """Be `uid`, and nothing else; who was root has no capabilities afterwards."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _map(process: str, uids: str, gids: str) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", uids), ("gid_map", gids)):
        file = os.open(f"/proc/{process}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def make_root(plan: Plan) -> None:
    """Make the file system of the place, and let go of the machine's."""
    socket.sethostname(HOST_NAME)
    make_mounts_private()
    copies = {mount: _copy(mount) for mount in plan.mounts if mount.kind == "bind"}
    stage = next(each for each in _STAGES if os.path.isdir(each) and not os.path.islink(each))  # noqa: PTH112, PTH114
    # Before anything else: the kernel allows a new /proc only where the old one is in full view.
    mount_new("tmpfs", stage, "mode=755,size=1m", code=True)
    os.chdir(stage)
    for mount in plan.mounts:
        target = mount.target.lstrip("/")
        if mount.kind == "link":
            _make_folders(os.path.dirname(target))  # noqa: PTH120
            os.symlink(mount.source, target)  # noqa: PTH211  # pathlib is not loaded here
        elif mount.kind == "bind":
            _make_point(target, folder=mount.folder)
            attach_mount(copies[mount], target)
            os.close(copies[mount])
        else:
            _make_point(target, folder=True)
            mount_new(mount.kind, target, mount.options)
    switch_root()
    closed = [mount.target for mount in plan.mounts if mount.kind == "tmpfs" and not mount.writable]
    for path in (*closed, "/"):
        restrict_mount(path, MOUNT_RDONLY, recursive=False)


def _copy(mount: Mount) -> int:
    attributes = MOUNT_NOSUID
    if not mount.devices:
        attributes |= MOUNT_NODEV
    if not mount.writable and not mount.devices:
        attributes |= MOUNT_RDONLY
    if not mount.code:
        attributes |= MOUNT_NOEXEC
    copy = clone_mount(mount.source, recursive=mount.folder)
    restrict_mount(copy, attributes, recursive=mount.folder)
    return copy


def _make_point(path: str, *, folder: bool) -> None:
    """Make what something is mounted on. In a folder that is mounted itself it is there already."""
    if folder:
        _make_folders(path)
        return
    _make_folders(os.path.dirname(path))  # noqa: PTH120
    if not os.path.lexists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))


def _make_folders(path: str) -> None:
    if path and not os.path.isdir(path):  # noqa: PTH112
        os.makedirs(path, 0o755)  # noqa: PTH103


def start_loopback() -> None:
    """Bring up the only network interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def connect_pages() -> None:
    """Make the interface over which pages of the browser reach each other by WebRTC.

    Raises:
        OSError: The kernel has no such interfaces.
    """
    _tell_kernel(messages())


def _tell_kernel(requests: Iterable[bytes]) -> None:
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as kernel:
        for message in requests:
            kernel.send(message)
            number = error_of(kernel.recv(4096))
            if number and number != errno.EAFNOSUPPORT:  # a kernel without IPv6 has no such addresses
                raise OSError(number, f"rtnetlink: {os.strerror(number)}")


def listen(address: str = "127.0.0.1", port: int = PROXY_PORT) -> socket.socket:
    """Return a socket on which the server accepts, outside. An address that is no loopback's becomes one of this place.

    Raises:
        OSError: The kernel has no addresses of that kind, e.g. of IPv6.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if not (address == "::1" or address.startswith("127.")):
        _tell_kernel([address_message(address)])
    return socket.create_server((address, port), family=family, backlog=_BACKLOG)
